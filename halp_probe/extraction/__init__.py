"""Extraction runs: from a table of questions to a folder of shards."""
