"""Judging of scores: measures, intervals, groups, curves and calibration."""
