"""What the README states, measured: ``python -m benchmarks`` or ``python -m benchmarks exact``."""
