"""Spreads the runs of assessments and comparisons over processes."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, connection, get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fedinv.errors import RequestError, RunError, require

if TYPE_CHECKING:
    from fedinv.studies.ray_workers import Cluster

Key = TypeVar("Key")


class Pool(Generic[Key]):
    """Tasks that run in the processes of one machine, by key."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor
        self._running: dict[Future[Any], Key] = {}

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Queue a module's function, to run where a process is free."""
        with _deaf():
            self._running[self._executor.submit(function, *arguments)] = key

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Yield each task's key and its result, or the RequestError or RunError that it raised, as tasks finish.

        More may be submitted meanwhile. Raises any other exception of a task, BrokenProcessPool when a process died.
        """
        while self._running:
            done, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in done:
                key = self._running.pop(future)
                try:
                    result = future.result()
                except (RequestError, RunError) as error:
                    result = error
                yield key, result


@dataclass(frozen=True)
class Workers:
    """The processes that tasks run in: on this machine, or on a Ray cluster."""

    jobs: int | None = None
    """Number of processes on this machine; None: one a core."""
    ray_address: str | None = None
    """Address, HOST:PORT, of a Ray cluster all of whose CPUs are used instead; None: this machine."""


@contextmanager
def _deaf() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, or each would print where it was: only the one that waits hears it.

    A process inherits the signals that are blocked from the thread that starts it. Here one is heard a moment later.
    Where signals cannot be blocked (Windows) all of them hear it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(work: connection.Connection) -> None:
    """End this process at once when the study that started it has ended, however that was: its lock is then gone."""
    parent = parent_process()
    watched = [work] if parent is None else [work, parent.sentinel]
    Thread(target=_wait_for, args=(watched,), daemon=True).start()


def _wait_for(watched: list[Any]) -> None:
    connection.wait(watched)
    os._exit(1)


@contextmanager
def pool(workers: Workers, tasks: int, what: str) -> "Iterator[Pool[Any] | Cluster[Any]]":
    """A pool for `tasks` tasks of the study that `what` names; its processes are ended at once on Ctrl-C.

    On a Ray cluster paths among the arguments must be absolute, and lie on a disk that all its machines share. Raises
    RequestError for a number of processes beside an address, RunError when a process was killed.
    """
    if workers.ray_address is not None:
        if workers.jobs is not None:
            raise RequestError("--jobs: a Ray cluster runs as many as it has CPUs, leave --jobs or --ray-address out")
        require("ray", "ray", "--ray-address")
        os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # or under `uv run` Ray ships the working folder
        from fedinv.studies.ray_workers import cluster

        with cluster(workers.ray_address) as work:
            yield work
        return
    processes = max(1, min(workers.jobs or os.cpu_count() or 1, tasks))
    mine, theirs = Pipe()
    with (
        closing(theirs),
        closing(mine),
        ProcessPoolExecutor(processes, get_context("spawn"), _end_with, (theirs,)) as executor,
    ):
        try:
            yield Pool(executor)
        except BrokenProcessPool as error:
            raise RunError(
                f"a process of the {what} was killed: try fewer --jobs; in a script of your own, call it below "
                'if __name__ == "__main__":, as each process imports the script'
            ) from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            mine.close()  # which ends the processes
            raise
