"""Probes of hidden states: fitting, judging, and the study that joins them."""
