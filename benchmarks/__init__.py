"""Measurements side by side with the neighbours; run one with `python -m benchmarks.<name>`."""
