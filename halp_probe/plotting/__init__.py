"""Plots with matplotlib, as SVG or PNG."""
