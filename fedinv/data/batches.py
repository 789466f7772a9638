"""The records that a client uses at each local step: a pure function of the scenario, the client and the round.

The client that trains and the judge that needs the truth both call it, so that the truth is never sent.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedinv.federation.streams import stream
from fedinv.federation.training import Training

Rows = NDArray[np.int64]
"""Positions of records, int64 (n,)."""


def local_batches(
    training: Training, records: int, sampling: Literal["shuffle", "poisson"], seed: int, client: int, round_: int
) -> tuple[Rows, ...]:
    """Return the positions, among the client's `records`, of those that each local step uses.

    FedSGD takes one batch; FedAvg goes `epochs` times over all records. "shuffle" draws each epoch without
    replacement (the last batch may be smaller); "poisson" includes each record in each batch independently with
    probability batch size / records, as DP-SGD's accounting assumes, so that a batch may be empty.
    """
    rng = stream(seed, "batches", client, round_)
    size = min(training.batch_size, records)
    steps = 1 if training.algorithm == "fedsgd" else -(-records // size)
    epochs = 1 if training.algorithm == "fedsgd" else training.epochs
    if sampling == "poisson":
        drawn = rng.random((epochs * steps, records)) < size / records
        return tuple(np.flatnonzero(row) for row in drawn)
    orders = [rng.permutation(records) for _ in range(epochs)]
    return tuple(order[i * size : (i + 1) * size] for order in orders for i in range(steps))


def used_records(batches: tuple[Rows, ...]) -> Rows:
    """Return the distinct positions that any batch uses, sorted."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *batches]))
