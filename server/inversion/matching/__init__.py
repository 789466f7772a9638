"""Gradient matching: searches records whose gradient matches the update."""
