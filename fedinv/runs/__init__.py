"""One run: train, attack behind the wall, judge, and write results and report."""
