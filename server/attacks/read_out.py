"""Reads the updates of weights that a malicious server made."""

from typing import ClassVar, Literal

import numpy as np

from fedinv.attack import Attack, Claim, Knowledge, Observation, Progress, nothing

from ..countermeasures import answer, answered


class ReadOut(Attack):
    """The read-out of the scenario's deviations: of several the claim of most records.

    Threat model: a malicious server, which knows what it sent to whom. It reads single updates, and sums behind secure
    aggregation.

    Claims: what each deviation in server/malicious/ says, and nothing where the server followed the protocol.
    """

    kind: Literal["read-out"] = "read-out"
    """Selects this attack: the read-out of what the malicious server sent."""
    reads_deviations: ClassVar[bool] = True
    adapts_to: ClassVar[frozenset[str]] = answered("look", "noise", "rounding", "decode")

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim what the deviations read, with the others' notes."""
        against = answer(seen, knows)
        if not knows.deviations:
            return nothing("the server followed the protocol, list what it does under [[server.deviations]]")
        claims = [one.claim(against.seen, against.requires, rng, progress) for one in knows.deviations]
        best = max(claims, key=lambda claim: len(claim.records))
        progress(1.0)
        return against.decode(best, rng)
