"""Differential privacy: what is charged, what is claimed of it, and what attacks bound from below."""
