"""Exact inversion: records from the first layer's update, up to floating-point rounding."""
