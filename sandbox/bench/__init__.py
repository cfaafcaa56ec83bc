"""Benchmarks of the product in the sandbox, as ratios within one run: ``make bench``."""
