"""Prompts through a model: prompting, prefill, captured states and answers, in batches."""
