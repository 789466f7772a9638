"""Kills commands at random moments, and counts what their folders, locks and processes are like afterwards."""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from fedinv.recording import folder as recording
from fedinv.storage import lock

KILLS = int(os.environ.get("KILLS", "12"))
"""Kills of each command: SIGKILL of its first process and SIGINT of all its processes, as Ctrl-C sends it, in turn."""
SEED = int(os.environ.get("SEED", "1"))
"""Seed of the moments of the kills."""
GRACE_SECONDS = 60.0
"""Seconds within which every process of a killed command must have ended."""
MOST_SECONDS = 900.0
"""Seconds within which a command that is not killed must end."""

SCENARIO = """
name = "killed"
seed = 3
secret = "00112233445566778899aabbccddeeff"
[data]
source = "hospital"
records = 200
[model]
kind = "mlp"
hidden = [32, 16]
[federation]
clients = 4
rounds = 6
[training]
algorithm = "fedavg"
epochs = 2
batch_size = 4
records_per_client = 6
lr = 0.05
[attacker]
watch = { rounds = [1, 2], clients = 2 }
[[attacks]]
kind = "exact"
fall_back = false
[[attacks]]
kind = "labels"
"""
DEFENSE = '[[defenses]]\nkind = "dp-sgd"\nepsilon = 4.0\n'
APP = Path(__file__).parents[1] / "tests/apps/tabular"
FIGURES = ("seconds", "seconds_ratio", "folder", "cell", "cells", "time")
"""Keys of outcomes that differ from run to run."""


@dataclass(frozen=True)
class Case:
    """A command that is killed, in a folder of its own that holds killed.toml, defended.toml and a finished run."""

    name: str
    command: tuple[str, ...]
    again: Callable[[Path], tuple[str, ...]]
    """The command that goes on afterwards."""
    outcomes: tuple[tuple[str, str], ...]
    """Files of outcomes with the pages that must stand beside them, as patterns."""


def _resumed(home: Path) -> tuple[str, ...]:
    if (home / "out/results.json").is_file():
        return ("report", "out")
    return ("run", "out") if (home / "out/scenario.toml").is_file() else ("run", "defended.toml", "--out", "out")


RUN = (("results.json", "report.html"),)
COMPARE = ("compare", "killed.toml", "--defenses", "top-k,clip-noise", "--attacks", "labels", "--only", "--jobs", "2")
REPLICATE = ("run", "killed.toml", "--seeds", "3", "--jobs", "2", "--out", "out")
ATTACK = ("attack", "finished", "--attack", "membership")
RECORD = ("record", str(APP), "--nodes", "2", "--out")
CASES = (
    Case("run", ("run", "defended.toml", "--out", "out"), _resumed, RUN),
    Case("attack", ATTACK, lambda _: ATTACK, RUN),
    Case(
        "compare",
        (*COMPARE, "--out", "out"),
        lambda _: (*COMPARE, "--out", "out"),
        (*RUN, ("comparison.json", "comparison.html")),
    ),
    Case("replicate", REPLICATE, lambda _: REPLICATE, (*RUN, ("replication.json", "replication.html"))),
    Case("record", (*RECORD, "out"), lambda _: (*RECORD, "anew"), ()),
)


def main() -> None:
    """Print for each command how often it was killed, how often in mid-work, and each thing that was not right."""
    moments = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        _prepare(root / "template")
        for case in CASES:
            whole = root / f"{case.name}-whole"
            shutil.copytree(root / "template", whole)
            _ended(_start(whole, case.command), MOST_SECONDS)
            _import_like(whole)
            shutil.rmtree(whole)
            shutil.copytree(root / "template", whole)
            began = time.monotonic()
            assert _ended(_start(whole, case.command), MOST_SECONDS) == 0, (whole / "said.txt").read_text()
            seconds = time.monotonic() - began
            wanted, seen, wrong = _outcome(whole), Counter[str](), Counter[str]()
            for number in range(KILLS):
                home = root / f"{case.name}-{number}"
                shutil.copytree(root / "template", home)
                with_ = signal.SIGKILL if number % 2 else signal.SIGINT
                seen[_killed(home, case, with_, moments.uniform(0.1, 1.0) * seconds)] += 1
                for fault in _faults(home, case, wanted):
                    wrong[f"{fault} after {with_.name}"] += 1
                shutil.rmtree(home)
            found = "; ".join(f"{count} x {fault}" for fault, count in wrong.items()) or "all whole, and ended the same"
            how = ", ".join(f"{count} {what}" for what, count in sorted(seen.items()))
            print(f"{case.name}: {KILLS} kills within {seconds:.1f} s ({how}): {found}", flush=True)


def _prepare(home: Path) -> None:
    home.mkdir()
    (home / "killed.toml").write_text(SCENARIO)
    (home / "defended.toml").write_text(SCENARIO + DEFENSE)
    _ended(_start(home, ("run", "killed.toml", "--out", "finished")), MOST_SECONDS)
    _import_like(home)


def _start(home: Path, command: tuple[str, ...]) -> ForkProcess:
    """Start a command as a copy of this process, which has imported what commands import, in a session of its own."""
    process = get_context("fork").Process(target=_command, args=(home, command))
    process.start()
    return process


def _command(home: Path, command: tuple[str, ...]) -> None:
    """Be the command, which Ctrl-C ends though this process may run in the background and ignore it."""
    from fedinv.cli import main as command_line

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(home)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv[:] = ["fedinv", *command]
    try:
        command_line()
    finally:
        (home / "modules.txt").write_text("\n".join(sys.modules))


def _import_like(home: Path) -> None:
    """Import what the command that ran there to its end had imported."""
    for name in (home / "modules.txt").read_text().split():
        with suppress(Exception):  # some are no modules of files
            import_module(name)


def _ended(process: ForkProcess, seconds: float) -> int | None:
    """The exit code; None for what takes longer, which is killed with all it started."""
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        return None
    return process.exitcode


def _killed(home: Path, case: Case, with_: signal.Signals, after: float) -> str:
    """Start the command, kill it after so many seconds, and say whether it ran to its end before."""
    process = _start(home, case.command)
    process.join(after)
    if process.exitcode is not None:
        return "came too late"
    if with_ == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid or 0, signal.SIGINT)
    code = _ended(process, GRACE_SECONDS)
    (home / "ended.json").write_text(json.dumps({"session": process.pid, "code": code}))
    return "in mid-work"


def _faults(home: Path, case: Case, wanted: dict[str, Any]) -> list[str]:
    """All that is not right after a kill, and after the command that goes on."""
    faults = []
    if (home / "ended.json").is_file():
        session, code = json.loads((home / "ended.json").read_text()).values()
        deadline = time.monotonic() + GRACE_SECONDS
        while (left := _of_session(session)) and time.monotonic() < deadline:
            time.sleep(0.1)
        faults += ["processes are left" for _ in left[:1]]
        said = (home / "said.txt").read_text(errors="replace")
        faults += ["a traceback" for _ in [0] if "Traceback" in said]
        faults += [f"exit code {code}" for _ in [0] if code not in (0, 1, 130, -signal.SIGKILL, -signal.SIGINT)]
    faults += ["a lock is held" for path in home.rglob(".*lock") if lock.is_held(path.parent, path.name)]
    faults += _half(home, case)
    code = _ended(_start(home, case.again(home)), MOST_SECONDS)
    said = (home / "said.txt").read_text(errors="replace")
    if code != 0:
        return [*faults, f"going on ends with exit code {code}: {said[-300:]!r}"]
    faults += [f"after going on, {fault}" for fault in _half(home, case)]
    faults += ["after going on, unfinished files" for _ in list(home.rglob(".*.part"))[:1]]
    if case.name == "record":
        recorded = recording.read(home / "anew")
        return faults + ["the second recording is cut short" for _ in recorded.skipped[:1]]
    found = _outcome(home)
    return faults + [
        f"another outcome in {path}" for path in sorted({*found, *wanted}) if _differs(found, wanted, path)
    ]


def _differs(found: dict[str, Any], wanted: dict[str, Any], path: str) -> bool:
    return bool(found.get(path) != wanted.get(path))


def _half(home: Path, case: Case) -> list[str]:
    """Outcomes without their page."""
    return [
        f"{outcome} without {page}"
        for outcome, page in case.outcomes
        for path in home.rglob(outcome)
        if path.parent.name != "undefended" and not path.with_name(page).is_file()
    ]


def _of_session(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def _outcome(home: Path) -> dict[str, Any]:
    """Every outcome by its path, without what differs from run to run."""
    paths = [*home.rglob("results.json"), *home.rglob("comparison.json"), *home.rglob("replication.json")]
    return {str(path.relative_to(home)): _plain(json.loads(path.read_text())) for path in paths}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if key not in FIGURES}
    return [_plain(one) for one in value] if isinstance(value, list) else value
