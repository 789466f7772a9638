"""Mechanisms that several defenses share: clipping, noise, and pruning."""
