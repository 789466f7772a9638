"""Measures the numbers that the README states: ``python -m benchmarks``, or one, ``python -m benchmarks exact``."""
