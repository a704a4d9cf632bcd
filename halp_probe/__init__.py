"""Probes on a vision-language model's hidden states that tell, before it answers, how likely the answer is wrong."""

__version__ = "0.1.0"
