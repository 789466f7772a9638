"""Where the same two Flower apps can run: one file an engine."""
