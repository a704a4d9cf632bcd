"""Merging of adapters into a model's weights, with a proof that nothing changed."""
