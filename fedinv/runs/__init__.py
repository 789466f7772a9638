"""One run: train, attack behind the wall, judge, and say what came of it."""
