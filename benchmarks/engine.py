"""What the inline engine adds to the training itself, in the same run: everything but the clients' own work."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fedinv import roles
from fedinv.engines import inline
from fedinv.scenario import Scenario, read

WORK = ("load", "local_batches", "plain_sgd")
"""What any loop over clients would have to do: take the weights up, draw the batches, train."""


def main() -> None:
    """Print CPU milliseconds a client and round, for a small and a large network: the median of five runs."""
    torch.set_num_threads(1)
    for hidden, clients in ((64, 200), (512, 50)):
        scenario = read(
            "hospital",
            [f"federation.clients={clients}", "data.records=5000", f"model.hidden=[{hidden}, {hidden}]", "attacks=[]"],
        )
        _measure(scenario)
        runs = sorted((_measure(scenario) for _ in range(5)), key=lambda run: run[1] - run[0])
        work, whole = runs[2]
        print(
            f"{clients} clients, MLP {hidden}-{hidden}: training {work:.2f} ms a client and round, "
            f"with Flower's messages {whole:.2f}, so {whole - work:.2f} ms added "
            f"({runs[0][1] - runs[0][0]:.2f} to {runs[-1][1] - runs[-1][0]:.2f})"
        )


def _measure(scenario: Scenario) -> tuple[float, float]:
    """Milliseconds a client and round: in the clients' own work, and in all."""
    app, spent = roles.load("clients", "app"), 0.0

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            begun = time.process_time()
            try:
                return work(*args, **kwargs)
            finally:
                spent += time.process_time() - begun

        return call

    originals = {name: getattr(app, name) for name in WORK}
    for name, work in originals.items():
        setattr(app, name, timed(work))
    try:
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            inline.train(scenario, Path(folder))
            whole = time.process_time() - begun
    finally:
        for name, work in originals.items():
            setattr(app, name, work)
    replies = scenario.federation.clients * scenario.federation.rounds
    return spent / replies * 1000, whole / replies * 1000
