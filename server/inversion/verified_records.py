"""Records that an attack verified one after another, with their labels."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class VerifiedRecords:
    """Records that were verified, with their labels."""

    records: Tensor
    """Records in the network's encoding, float64 (k, width)."""
    labels: Tensor
    """Classes, int64 (k,)."""

    @staticmethod
    def none(width: int) -> "VerifiedRecords":
        """No records of so many inputs."""
        return VerifiedRecords(torch.zeros(0, width, dtype=torch.float64), torch.zeros(0, dtype=torch.int64))

    def times(self, counts: Tensor) -> "VerifiedRecords":
        """Each record as often as it is in the batch."""
        return VerifiedRecords(self.records.repeat_interleave(counts, 0), self.labels.repeat_interleave(counts))

    def and_(self, more: "VerifiedRecords") -> "VerifiedRecords":
        """These records followed by more."""
        return VerifiedRecords(torch.cat([self.records, more.records]), torch.cat([self.labels, more.labels]))
