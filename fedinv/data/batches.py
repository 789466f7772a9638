"""Which of its records a client uses at which local step: a pure function of the scenario, the client and the round.

Both the client that trains and the judge who needs the truth call it, so the truth never has to be transmitted.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedinv.federation.streams import stream
from fedinv.federation.training import Training

Rows = NDArray[np.int64]


def local_batches(
    training: Training, records: int, sampling: Literal["shuffle", "poisson"], seed: int, client: int, round_: int
) -> tuple[Rows, ...]:
    """Positions among the client's `records` that each local step uses.

    FedSGD takes one batch; FedAvg goes `epochs` times over all records. "shuffle" draws each epoch without
    replacement (the last batch may be smaller); "poisson" includes each record at each step independently with
    probability batch size / records, as the accounting of DP-SGD assumes, so a batch may be empty.
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
    """The distinct positions that any step used, sorted."""
    return np.unique(np.concatenate([np.empty(0, np.int64), *batches]))
