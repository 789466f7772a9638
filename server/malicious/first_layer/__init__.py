"""Deviations that make the first linear layer give single records away."""
