"""The processes in which the page's scenarios run, each with a progress that the page can read meanwhile.

They are processes of their own, as an attack runs behind a wall that hides most of fedinv from its whole process.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fedinv.errors import RequestError, RunError, plain

if TYPE_CHECKING:
    from fedinv.lab.forming import Forming
    from fedinv.lab.look import Look
    from fedinv.report.terminal import Bar
    from fedinv.scenario.scenario import Scenario

PROCESSES = 2
"""Processes that work at once: one for each of two settings side by side."""
STEP = 0.02
"""Least change of a stage's share, 0 to 1, that is written down."""
KEPT = 12
"""Runs whose folders are kept; of more, the oldest are removed."""
LOOKS = 0.1
"""Seconds between two looks at how far a task is."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Task(Generic[Outcome]):
    """One scenario at work, or one search."""

    folder: Path
    """Folder in which it runs."""
    future: "Future[Outcome]"
    """Outcome of the task, or the error that it ended in."""

    def stage(self) -> tuple[str, float]:
        """Return the current stage in words, and the share of it that is done, 0 to 1."""
        try:
            name, share = json.loads(_note(self.folder).read_text(encoding="utf-8"))
            return str(name), float(share)
        except (OSError, ValueError, TypeError):
            return "waiting", 0.0

    def supersede(self) -> None:
        """Have it end, with nobody waiting for that: at once where it has not begun, else when it next says how far.

        Its outcome is then an error that nobody is to see.
        """
        if not self.future.cancel():
            _superseded(self.folder).touch()

    def outcome(self) -> "Outcome | str":
        """Wait for the outcome and return it, or one line on why there is none."""
        try:
            return self.future.result()
        except (RequestError, RunError) as error:
            return plain(error)
        except Exception as error:
            return f"it ended in an error of fedinv's own: {type(error).__name__}"


class SupersededError(BaseException):
    """Raised through a task that nobody waits for any more; not an Exception, which would be an attack's own fault."""


def followed(
    tasks: Sequence[Task[Outcome]], show: Callable[[list[tuple[str, float]]], None], superseded: Callable[[], bool]
) -> "list[Outcome | str] | None":
    """Wait for the tasks' outcomes, while `show` is called with their stages.

    None as soon as `superseded` says that others are wanted instead; the tasks then end too.
    """
    while not superseded():
        waited_for = [one.future for one in tasks if not one.future.done()]
        if not waited_for:
            return [one.outcome() for one in tasks]
        show([one.stage() for one in tasks])
        wait(waited_for, timeout=LOOKS, return_when=FIRST_COMPLETED)
    for one in tasks:
        one.supersede()
    return None


@dataclass(frozen=True)
class Workshop:
    """The processes, and the folder that their runs lie in."""

    executor: Executor
    """Pool of the processes."""
    root: Path
    """Folder of all runs, which its owner alone may read."""
    tasks: list[Task[Any]] = field(default_factory=list)
    """Tasks that were begun and whose folders are kept, oldest first."""

    def look(self, scenario: "Scenario") -> "Task[Look]":
        """Begin to train, attack and judge a scenario."""
        return self._begun(look_at, scenario.to_toml())  # a plugin's own class may not be known over there by its name

    def forming(self, run: Path) -> "Task[Forming]":
        """Begin to attack a finished run once more, by a search that is watched."""
        return self._begun(form, run)

    def keep(self, content: bytes, name: str) -> Path:
        """Write an uploaded file into a folder of its own, under its name without a path; its owner alone reads it."""
        place = Path(tempfile.mkdtemp(dir=self.root)) / (Path(name).name or "table.csv")
        place.write_bytes(content)
        return place

    def _begun(self, function: Callable[..., Any], argument: Any) -> Task[Any]:
        folder = Path(tempfile.mkdtemp(dir=self.root))
        task = Task(folder, self.executor.submit(function, folder, argument))
        self.tasks.append(task)
        while len(self.tasks) > KEPT and self.tasks[0].future.done():
            shutil.rmtree(self.tasks.pop(0).folder, ignore_errors=True)
        return task


@contextmanager
def workshop(processes: int = PROCESSES) -> Iterator[Workshop]:
    """A workshop whose processes have imported what a scenario needs; they end, and all runs go, with the block."""
    # a page that is still open may begin a run while the folder goes
    with tempfile.TemporaryDirectory(prefix="fedinv-lab-", ignore_cleanup_errors=True) as root:
        executor = ProcessPoolExecutor(processes, get_context("spawn"), warm)
        try:
            for _ in range(processes):
                executor.submit(ready)
            yield Workshop(executor, Path(root))
        finally:
            _end(executor)


def _end(executor: ProcessPoolExecutor) -> None:
    """End the processes whatever they are at: nobody waits for what they would find."""
    working = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in working:
        process.terminate()
    for process in working:
        process.join()


def warm() -> None:
    """Import and run once what every scenario needs, so that the first one is as quick as the others."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends its processes
    from fedinv.lab import forming, look
    from fedinv.lab.settings import Settings, scenario_of
    from fedinv.runs.run import quiet

    with tempfile.TemporaryDirectory() as folder:
        small = scenario_of(Settings(clients=2, batch_size=1, epochs=1))
        look.look(small, Path(folder) / "run", quiet)
    assert forming  # imported for those that follow


def ready() -> None:
    """Do nothing: a process that runs this has started."""


def look_at(folder: Path, toml: str) -> "Look":
    """Train, attack and judge a scenario, given as TOML, in a folder, in one of the processes."""
    from fedinv import api
    from fedinv.lab.look import look

    return look(api.load(toml), folder / "run", lambda name: _noting(folder, name))


def form(folder: Path, run: Path) -> "Forming":
    """Attack a finished run by a search that is watched, in one of the processes."""
    from fedinv.lab.forming import forming

    return forming(run, _noting(folder, "search"))


def _note(folder: Path) -> Path:
    return folder / "stage.json"


def _superseded(folder: Path) -> Path:
    """File that is there as soon as nobody waits for the folder's task any more."""
    return folder / "superseded"


def _noting(folder: Path, name: str) -> "Bar":
    """Write down the stage `name`, or what it is at now, and its share whenever that has grown by STEP.

    Moving the bar raises SupersededError once nobody waits for the task any more.
    """
    written, over = -1.0, _superseded(folder)

    def note(share: float, now: str = "") -> None:
        nonlocal written
        if over.exists():
            raise SupersededError
        if share >= written + STEP or share >= 1:
            written = share
            _note(folder).write_text(json.dumps([now or name, round(share, 3)]), encoding="utf-8")

    note(0.0)
    return note
