"""How fast it is, as ratios measured side by side: ``python -m benchmarks``."""
