"""What recording costs: an app after quickstart-pytorch, tapped and untapped in turn in the same process."""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid

from fedinv.recording import app as apps
from fedinv.recording.grid import RUN_ID, LocalGrid
from fedinv.recording.recorder import Recorder
from fedinv.recording.tap import tap

APP = Path(__file__).parents[1] / "tests/apps/images"
CLIENTS, TURNS = 4, 6
IMAGES = 1000
"""Images of each client; the published example has 4,000."""


def main() -> None:
    """Print the seconds of the app untapped and tapped, their ratio, and the milliseconds a message by model size."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    declared = apps.read(APP, [f"images={IMAGES} batch-size=32 num-server-rounds=2"])
    untapped, tapped, inside = [], [], []
    with apps.loaded(declared) as (server, client), tempfile.TemporaryDirectory() as folder:

        def run(wrap: Callable[[Grid], Grid]) -> float:
            grid = wrap(LocalGrid(client, CLIENTS, dict(declared.config), lambda message, reply: None))
            begun = time.process_time()
            server(grid, Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), dict(declared.config)))
            return time.process_time() - begun

        run(lambda grid: grid)  # the first one also imports and warms up
        for turn in range(2 * TURNS):  # untapped, tapped, tapped, untapped: neither is always the first
            if turn % 4 in (0, 3):
                untapped.append(run(lambda grid: grid))
                continue
            with timed(Recorder, "sent", "received") as spent:
                tapped.append(run(lambda grid, turn=turn: tap(grid, Path(folder) / str(turn))))
            inside.append(sum(spent))
    print(f"{CLIENTS} clients x {IMAGES:,} images, 2 rounds of training and evaluation, CPU seconds, median of {TURNS}")
    print(
        f"  untapped {median(untapped):.2f} s, tapped {median(tapped):.2f} s: x {median(tapped) / median(untapped):.3f}"
    )
    share = median(i / t for i, t in zip(inside, tapped, strict=True))
    print(f"  of which in the tap {median(inside):.3f} s: {100 * share:.2f} %")
    for parameters in (60_000, 5_000_000):
        print(
            f"  {parameters:>9,} parameters: {1000 * exchange(parameters):.1f} ms a client and round, sent and received"
        )


class timed:  # noqa: N801
    """Adds up the CPU seconds that calls of some methods of a class take within the block."""

    def __init__(self, owner: type, *names: str) -> None:
        """Time these methods."""
        self.owner, self.before = owner, {name: getattr(owner, name) for name in names}

    def __enter__(self) -> list[float]:
        spent: list[float] = []
        for name, method in self.before.items():

            def call(*arguments: Any, method: Callable[..., Any] = method, **named: Any) -> Any:
                begun = time.process_time()
                try:
                    return method(*arguments, **named)
                finally:
                    spent.append(time.process_time() - begun)

            setattr(self.owner, name, call)
        return spent

    def __exit__(self, *_: object) -> None:
        for name, method in self.before.items():
            setattr(self.owner, name, method)


def exchange(parameters: int, rounds: int = 5) -> float:
    """CPU seconds that one client's message and reply take to record, the sent arrays being those of others."""

    def answer(message: Message, context: Context) -> Message:
        values = message.content["arrays"]["w"].numpy() + np.float32(context.node_id)
        content = {"arrays": ArrayRecord({"w": Array(values)}), "metrics": MetricRecord({"num-examples": 8})}
        return Message(RecordDict(content), reply_to=message)

    with tempfile.TemporaryDirectory() as folder, timed(Recorder, "sent", "received") as spent:
        grid = tap(LocalGrid(answer, 4, {}, lambda message, reply: None), folder)
        for round_ in range(rounds):
            arrays = ArrayRecord({"w": Array(np.full(parameters, round_, np.float32))})
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": round_ + 1})})
            grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()])
    return sum(spent) / (4 * rounds)
