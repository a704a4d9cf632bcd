"""Scoring with saved probes: the risk of a wrong answer before its first token."""
