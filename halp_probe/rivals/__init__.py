"""Rivals of a probe: what the model's own answers, sampled or asked about, say of its uncertainty."""
