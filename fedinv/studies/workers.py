"""Work spread over processes, each of one thread: what assessments and comparisons run on."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fedinv.errors import RequestError, RunError

if TYPE_CHECKING:
    from fedinv.studies.ray_workers import Cluster

Key = TypeVar("Key")


class Pool(Generic[Key]):
    """Tasks under way, by key."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor
        self._running: dict[Future[Any], Key] = {}

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a function of a module, or put it in line."""
        self._running[self._executor.submit(function, *arguments)] = key

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Each task's key and result, or the RequestError or RunError that it ended with, as they finish.

        More may be submitted meanwhile. Raises RunError when a process was killed from outside.
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


@contextmanager
def pool(
    jobs: int | None, tasks: int, what: str, ray_address: str | None = None
) -> "Iterator[Pool[Any] | Cluster[Any]]":
    """A pool of as many processes as asked for, one a core by default; it is closed at once on Ctrl-C.

    With an address, the CPUs of a Ray cluster instead: then paths among the arguments must be absolute, and lie on a
    disk that all its machines share.
    """
    if ray_address is not None:
        if jobs is not None:
            raise RequestError("--jobs: a Ray cluster runs as many as it has CPUs, leave --jobs or --ray-address out")
        os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # or under `uv run` Ray ships the working folder
        from fedinv.studies.ray_workers import cluster

        with cluster(ray_address) as work:
            yield work
        return
    workers = max(1, min(jobs or os.cpu_count() or 1, tasks))
    with ProcessPoolExecutor(workers, get_context("spawn")) as executor:
        try:
            yield Pool(executor)
        except BrokenProcessPool as error:
            raise RunError(f"a process of the {what} was killed: try fewer --jobs") from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
