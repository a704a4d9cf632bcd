"""Interventions on the residual stream while a model answers: steering and ablation of a probe's direction."""
