"""Spreads the runs of assessments and comparisons over processes."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fedinv.errors import RequestError, RunError

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


def _end_with_parent() -> None:
    """End this process at once when the one that started it has ended, however it was killed: its lock is then gone."""
    parent = parent_process()
    if parent is not None:
        Thread(target=_wait_for, args=(parent.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    connection.wait([sentinel])
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
        os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # or under `uv run` Ray ships the working folder
        from fedinv.studies.ray_workers import cluster

        with cluster(workers.ray_address) as work:
            yield work
        return
    processes = max(1, min(workers.jobs or os.cpu_count() or 1, tasks))
    with ProcessPoolExecutor(processes, get_context("spawn"), _end_with_parent) as executor:
        try:
            yield Pool(executor)
        except BrokenProcessPool as error:
            raise RunError(
                f"a process of the {what} was killed: try fewer --jobs; in a script of your own, call it below "
                'if __name__ == "__main__":, as each process imports the script'
            ) from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
