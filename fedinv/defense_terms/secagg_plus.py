"""SecAgg+ as both sides of a scenario read it: the terms that the server proposes and that a client insists on.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020, section 3: each client shares its secrets with few neighbors, not with
all.
"""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from fedinv.strict import Strict

MODULUS = 2**32
"""Masked vectors add up modulo this: what Flower's messages are made for."""


class SecaggTerms(Strict):
    """What a scenario says of SecAgg+ beside its kind."""

    shares: int = Field(default=9, ge=3)
    """Clients that hold a share of a client's secrets, itself among them: more of them survive more drop-outs and cost
    more time. The whole cohort where it is smaller; an even number becomes the next odd one."""
    threshold: float = Field(default=0.6, gt=0, le=1)
    """Fraction of the shares that opens a secret: so many of a client's neighbors must stay to the end of the round.
    Above one half, the shares of one client open only one of its two secrets."""
    clipping_range: float = Field(default=8.0, gt=0)
    """Largest absolute value that an entry of the update may have once it is multiplied by the client's weight over
    max_weight, in units of weights; a client whose update goes beyond stays out of the round."""
    quantization_bits: int = Field(default=22, ge=2, le=31)
    """Bits of an entry over the clipping range. Clients times 2^bits must stay below 2^32: at most 1,023 with 22."""
    max_weight: float | None = Field(default=None, gt=0)
    """What a client can count at most in the mean, in records. Where it is absent, what the training table tells: the
    batch size under fedsgd, records_per_client, or 1000."""
    check_lists: bool = False
    """Whether a client refuses to tell its shares of both secrets of another; Flower's own client does not look."""

    @property
    def capacity(self) -> int:
        """Clients in a round whose sum does not wrap around the modulus."""
        return (MODULUS - 1) >> self.quantization_bits

    def neighbors(self, cohort: int) -> int:
        """Holders of shares in a cohort of this size."""
        return min(self.shares | 1, cohort)

    def needed(self, cohort: int) -> int:
        """Shares that open a secret in a cohort of this size; at least two."""
        return max(2, math.ceil(self.threshold * self.neighbors(cohort) - 1e-9))

    def heaviest(self, limit: float | None) -> float:
        """What a client can count at most, where the training table sets this limit."""
        return self.max_weight or limit or 1000.0


def terms(defense: Mapping[str, Any]) -> SecaggTerms:
    """Read the terms from a scenario's table of the defense."""
    return SecaggTerms.model_validate({key: value for key, value in defense.items() if key != "kind"})
