"""Fused models: a pretrained vision tower and a pretrained language model with a new connector."""
