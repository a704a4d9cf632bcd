"""Comparison of two extractions of the same questions: what training did to each representation."""
