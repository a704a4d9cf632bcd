"""Fitting of probes: solver, losses, estimators, MLPs and splits."""
