"""Inverts a ReLU network's first layer exactly: a client's whole records, without searching over inputs."""

import time
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Knowledge, Observation, Progress

from ..inversion.first_layer import factor, first_layer, known_noise
from ..inversion.peeling import Search, peel


class Exact(Attack):
    """Exact inversion."""

    kind: Literal["exact"] = "exact"
    adapts_to: ClassVar[frozenset[str]] = frozenset({"dp-sgd", "clip-noise"})
    restarts_per_record: int = Field(default=10, ge=1, le=1000)
    iterations: int = Field(default=150, ge=10, le=10_000)
    rounds: int = Field(default=6, ge=1, le=20)
    seconds: float = Field(default=20.0, gt=0)

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        last = seen.last
        layer = first_layer(last, knows)
        still = knows.algorithm == "fedsgd"
        factors = factor(layer, last.records, known_noise(knows, last.records), still)
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        search = Search(self.restarts_per_record, self.iterations, self.rounds, time.monotonic() + self.seconds)
        records, ev = peel(layer, factors, knows.schema, still, search, generator, progress)
        return Claim(records[:, :-1].float(), ev.agreement.float(), notes=(f"{len(records)} of rank {factors.left.shape[1]}",))
