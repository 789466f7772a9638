"""Weights that make updates readable, and how they are read: the parts that deviations are made of."""
