"""Keeps clients apart in one secure sum."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Claim, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel

from ..crafting import cells
from .grid import laid_out, listed, two_layers


class Blocks(Deviation):
    """The grid on units of its own for each client: whoever reads the sum knows whose a record is.

    Threat model: as for `grid`, and the server may send clients different weights, of which none has a silent network.
    With c clients each has 1/c of the second layer's units, so that batches must be smaller.

    Claims: records as `grid` does, each with the client that holds it.

    Paper: Zhao et al. (2024), LOKI: Large-scale data reconstruction attack against federated learning through model
    manipulation, section 4, keeps clients apart by convolutional kernels; here slabs do.
    """

    kind: Literal["blocks"] = "blocks"
    """Selects this deviation: units of its own for each client."""
    tables: int = Field(default=3, ge=1, le=8)
    """Projections a client, 1 to 8; with more, slabs are wider."""
    alike: ClassVar[bool] = False

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is none with two hidden layers and ReLU; None where it is."""
        return two_layers(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The grid on this client's units. Raises ValueError where schema or architecture do not suffice."""
        units = len([tensor for tensor in sent.values() if tensor.ndim == 2][1])
        size, place = units // len(turn.cohort), turn.cohort.index(turn.client)
        rows = slice(place * size, (place + 1) * size)
        return cells.weights(cells.aimed(laid_out(sent, knows, self.tables, rows), knows, rng), sent)

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records in each client's cells."""
        last = seen.last
        sent_to = last.sent_to or {seen.clients[0]: last.sent}
        found: list[Claim] = []
        for done, (client, sent) in enumerate(sent_to.items()):
            used = [tensor for tensor in sent.values() if tensor.ndim == 2][1].any(1).nonzero()[:, 0]
            if not len(used):
                continue
            try:
                grid = laid_out(sent, knows, self.tables, slice(int(used[0]), int(used[-1]) + 1))
            except ValueError as error:
                return nothing(str(error))
            one = listed(cells.read_grid(grid, sent), replace(last, sent=sent), knows)
            if len(one.records):
                found.append(owned(one, client))
            progress((done + 1) / len(sent_to))
        return joined(found) if found else nothing("no cell holds a record that the dictionary certifies")


def owned(claim: Claim, client: int) -> Claim:
    """The claim, with the client that all its records belong to."""
    return Claim(
        claim.records,
        claim.confidence,
        claim.labels,
        None,
        (),
        checked=claim.checked,
        owners=torch.full((len(claim.records),), client),
    )


def joined(claims: list[Claim]) -> Claim:
    """Several claims as one."""
    labels = [claim.labels for claim in claims if claim.labels is not None]
    return Claim(
        torch.cat([claim.records for claim in claims]),
        torch.cat([claim.confidence for claim in claims]),
        torch.cat(labels) if len(labels) == len(claims) else None,
        checked=torch.cat([claim.verified for claim in claims]),
        owners=torch.cat([claim.owners for claim in claims if claim.owners is not None]),
    )
