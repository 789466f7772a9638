"""Parameters of SecAgg+ that the server proposes and that each client checks.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020, section 3: each client shares its secrets with a few neighbors
instead of all clients.
"""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from fedinv.strict import Strict

MODULUS = 2**32
"""Modulus of the masked vectors and their sum, as Flower's messages hold them."""


class SecaggTerms(Strict):
    """Keys of SecAgg+ in a scenario, without `kind`."""

    shares: int = Field(default=9, ge=3)
    """Clients that hold a share of a client's secrets, itself included: more of them survive more dropouts and cost
    more time. The whole cohort where it is smaller; an even number becomes the next odd one."""
    threshold: float = Field(default=0.6, gt=0, le=1)
    """Fraction of the shares that reconstructs a secret: as many of a client's neighbors must stay to the end of the
    round. Above one half, the shares of a client suffice for only one of its two secrets."""
    clipping_range: float = Field(default=8.0, gt=0)
    """Largest absolute value of an entry of the update times the client's weight over max_weight, in units of the
    model's weights; a client whose update exceeds it is left out of the round."""
    quantization_bits: int = Field(default=22, ge=2, le=31)
    """Bits per entry over the clipping range. Clients times 2^bits must stay below 2^32: at most 1,023 with 22."""
    max_weight: float | None = Field(default=None, gt=0)
    """Largest weight of a client in the mean, in records; a client that weighs more is left out of the round. Default:
    the batch size under fedsgd, records_per_client under fedavg, else 1000."""
    check_lists: bool = False
    """True: a client refuses to reveal its shares of both secrets of another; Flower's own client does not check."""

    @property
    def capacity(self) -> int:
        """Largest number of clients whose sum does not wrap around the modulus."""
        return (MODULUS - 1) >> self.quantization_bits

    def neighbors(self, cohort: int) -> int:
        """Number of clients that hold a client's shares in a cohort of this size, itself included."""
        return min(self.shares | 1, cohort)

    def needed(self, cohort: int) -> int:
        """Number of shares that reconstruct a secret in a cohort of this size; at least two."""
        return max(2, math.ceil(self.threshold * self.neighbors(cohort) - 1e-9))

    def heaviest(self, limit: float | None) -> float:
        """Largest weight of a client, in records: max_weight, else the training table's `limit`, else 1000."""
        return self.max_weight or limit or 1000.0


def known(clipping_range: float, levels: float, max_weight: float, cohort: int) -> dict[str, Any]:
    """The defense's table as an attack is given it, of a sum of `cohort` clients that another app came to.

    `levels` are those of an entry over the clipping range; `max_weight` is in the records that the attack counts.
    """
    terms = {"clipping_range": clipping_range, "quantization_bits": math.log2(levels)}
    return {"kind": "secagg-plus", **terms, "max_weight": max_weight, "cohort": cohort}


def terms(defense: Mapping[str, Any]) -> SecaggTerms:
    """Read the parameters from the defense's table in a scenario."""
    return SecaggTerms.model_validate({key: value for key, value in defense.items() if key != "kind"})
