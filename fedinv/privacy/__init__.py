"""Differential privacy: charges, accountants, claims, and lower bounds measured by attacks."""
