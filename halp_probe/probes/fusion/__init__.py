"""Fusion of several probes into one: a stack, their mean, joint components, differences of states."""
