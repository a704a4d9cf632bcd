"""Benchmarks by name: what each publishes, how its rows become questions, what is known to be wrong with it. Pure."""
