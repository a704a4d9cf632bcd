"""Checkpoints of vision-language models: names, families, adapters, loading."""
