"""Compares only the coordinates that were not pruned (Huang et al. 2021)."""

from .top_k import masks

__all__ = ["masks"]
