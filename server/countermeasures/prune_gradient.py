"""Match the entries that were sent, and no others: pruned ones say nothing of the gradient (Huang et al. 2021)."""

from .top_k import masks

__all__ = ["masks"]
