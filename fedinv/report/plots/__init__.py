"""Plots and images of results, as PNG bytes."""
