"""Runs a real deployment with a client that answers each round in another hostile way, and says what became of it."""

import tempfile
import time
from pathlib import Path
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.hostile_app import HOSTILE, ways
from fedinv.engines import Options
from fedinv.engines.deployment import engine, rehearsal
from fedinv.errors import plain
from fedinv.runs.run import open_folder
from fedinv.scenario.reading import loads
from fedinv.storage import files
from fedinv.storage.run_folder import RunFolder

SCENARIO = """
name = "hostile"
seed = 3
secret = "00112233445566778899aabbccddeeff"
[data]
source = "hospital"
records = 200
[model]
kind = "mlp"
hidden = [32, 16]
[federation]
clients = 3
rounds = %d
round_seconds = 40
[training]
algorithm = "fedavg"
records_per_client = 6
lr = 0.05
[attacker]
watch = { rounds = [1], clients = 1 }
"""


def main() -> None:
    """Print, for each hostile way, why its client was left out of the round, and how many honest updates were used."""
    names = list(ways())
    written = engine._write_app

    def write_app(folder: Path) -> None:
        written(folder)
        declared = folder / "pyproject.toml"
        text = declared.read_text(encoding="utf-8")
        files.write(declared, text.replace("clients.app:app", "benchmarks.hostile_app:app"))

    with tempfile.TemporaryDirectory() as home, mock.patch.object(engine, "_write_app", write_app):
        at, scenario = Path(home) / "up", loads(SCENARIO % len(names))
        out = open_folder(scenario, Path(home) / "out")
        started = time.monotonic()
        try:
            rehearsal.up(at, scenario.federation.clients, False, print)
            engine.train(scenario, out, lambda round_: None, Options(deployment=at))
        finally:
            rehearsal.down(at)
        progress = files.read_json(RunFolder(out).progress)
        seconds = time.monotonic() - started
    reasons = {one["round"]: one["reason"] for one in progress["left_out"] if one["client"] == HOSTILE}
    others = [one for one in progress["left_out"] if one["client"] != HOSTILE]
    table = Table("Reply", "Why its client was left out")
    for number, name in enumerate(names, 1):
        table.add_row(plain(name), plain(reasons.get(number, "it was not left out"), 120))
    Console(width=120).print(table)
    left = sum(number in reasons for number in range(1, len(names) + 1))
    print(
        f"{left} of {len(names)} hostile replies left out alone; {progress['used']} of {HOSTILE * len(names)} honest "
        f"updates used, {len(others)} honest clients left out; {progress['round']} of {len(names)} rounds, "
        f"{seconds:.0f} s"
    )
