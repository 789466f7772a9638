import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import pytest
import torch
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import HealthCheck, settings

from fedinv.report.plots import canvas
from fedinv.studies import workers

# a busy machine is no failure: neither an example nor drawing it is held against a clock; the same examples are drawn
# in every run, so that one that fails does so again, and is printed with what reproduces it alone
settings.register_profile(
    "fedinv", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fedinv")

BOUND_SECONDS = 900.0
"""For every wait of a test: far more than it takes, as the machine may be busy with other things."""

TINY = """
name = "tiny"
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
rounds = 3
[training]
algorithm = "fedavg"
epochs = 2
batch_size = 4
records_per_client = 6
lr = 0.05
[attacker]
watch = { rounds = [1, 2], clients = 2 }
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the slow tests on every worker: they mostly wait, while the other workers compute.

    pytest-xdist hands each worker a run of a quarter of its share first: slow tests are put at the beginning of each of
    these runs, those of a file in one of them, as they share what is started for them.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    slow = [item for item in items if item.get_closest_marker("slow") is not None]
    others = iter([item for item in items if item.get_closest_marker("slow") is None])
    files = [list(group) for _, group in groupby(slow, key=lambda item: item.path)]
    mine: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for file in sorted(files, key=len, reverse=True):
        min(mine, key=len).extend(file)
    first = len(items) // workers // 4
    items[:] = [one for run in mine for one in (*run, *islice(others, max(0, first - len(run))))] + list(others)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> str:
    """A scenario's text that trains in a moment; tests append what they need."""
    return TINY


@pytest.fixture(scope="session")
def shared_tiny() -> str:
    """The same for what several tests share."""
    return TINY


@dataclass(frozen=True)
class Started:
    """A process in a session of its own, whose output goes to two files: no pipe can fill up or be left open."""

    process: subprocess.Popen
    output: Path
    errors: Path
    mark: bytes
    """What its environment and those of its children hold, and no other."""

    def family(self) -> dict[int, str]:
        """It and its children, whoever their parents are by now, as long as they run: number and command."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def ended(self) -> subprocess.CompletedProcess:
        """Wait for its end; its exit status and all that it and its children printed."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(BOUND_SECONDS)
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (self.output, self.errors)]
        assert self.process.returncode is not None, f"still runs after {BOUND_SECONDS:g} s, having printed: {texts}"
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, *texts)

    def kill(self) -> None:
        """End it and its children at once; harmless where they ended."""
        for process in (self.process.pid, *self.family()) if self.process.poll() is None else self.family():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def start(tmp_path_factory):
    """Starts commands; they and all that they started are killed when the test is over, however it ended."""
    started: list[Started] = []

    def start(command: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] = os.environ) -> Started:
        folder = tmp_path_factory.mktemp("output")
        paths, mark = (folder / "output.txt", folder / "errors.txt"), f"STARTED_BY_TEST={folder}"
        with paths[0].open("wb") as output, paths[1].open("wb") as errors:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**env, **dict([mark.split("=", 1)])},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        started.append(Started(process, *paths, mark.encode()))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture
def until() -> Callable[..., None]:
    """Waits for an event, for minutes; given a process, no longer than it runs."""

    def until(happened: Callable[[], object], waited_for: str, by: Started | None = None) -> None:
        ends = time.monotonic() + BOUND_SECONDS
        while not happened():
            # asked once more: it may have happened just before the process ended
            if by is not None and by.process.poll() is not None and not happened():
                raise AssertionError(f"the process ended before {waited_for}: {by.ended()}")
            assert time.monotonic() < ends, f"{waited_for}: not within {BOUND_SECONDS:g} s"
            time.sleep(0.05)

    return until


INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from fedinv.cli import main; sys.exit(main())"
)


@pytest.fixture
def interruptible() -> list[str]:
    """The command line as a command that Ctrl-C ends: where tests run in the background, children ignore it."""
    return [sys.executable, "-c", INTERRUPTIBLE]


@pytest.fixture(scope="module")
def task_identity() -> None:
    """What Flower's messages ask for outside of its runtime, as the inline engine sets it."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, SUPERLINK_NODE_ID, 1


DRAW = canvas.drawn


@pytest.fixture(scope="session", autouse=True)
def blank_plots():
    """Pages have a blank image for every plot, as drawing takes longest of all.

    Only in this process and its copies; commands draw, and so do tests that ask for `drawn_plots`.
    """
    blank = DRAW(canvas.Plot(0.1, lambda figure: None, 0.1), "png", "svg", "pdf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "drawn", lambda plot, *formats: {form: blank[form] for form in formats})
        yield


@pytest.fixture
def drawn_plots(monkeypatch, blank_plots):
    """Pages have their plots: for tests of pages, and of all that drawing may do."""
    monkeypatch.setattr(canvas, "drawn", DRAW)


class SameProcess(Executor):
    """In the place of a study's processes: does the work at once, and gives it to and fro as to another process."""

    def __init__(self, *_: object) -> None:
        pass

    def submit(self, function, /, *arguments):
        future: Future = Future()
        try:
            work, given = pickle.loads(pickle.dumps((function, arguments)))
            future.set_result(pickle.loads(pickle.dumps(work(*given))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


@pytest.fixture(scope="session")
def same_process():
    """Within its context studies start no processes, each of which takes seconds to import what it needs."""

    @contextmanager
    def same_process():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers, "ProcessPoolExecutor", SameProcess)
            yield

    return same_process
