"""Spreads the runs of a study over the machines of a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from fedinv.engines.ray.connection import join
from fedinv.errors import RequestError, RunError

Key = TypeVar("Key")


class Cluster(Generic[Key]):
    """Tasks that run on a Ray cluster, by key; the same interface as `workers.Pool` on one machine."""

    def __init__(self) -> None:
        self._task: Any = ray.remote(num_cpus=1)(_outcome)
        self._running: dict[Any, Key] = {}

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Queue a module's function, to run where a CPU of the cluster is free."""
        self._running[self._task.remote(function, arguments)] = key

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Yield each task's key and its result, or the RequestError or RunError that it raised, as tasks finish.

        More may be submitted meanwhile. A task whose worker or machine dies is tried again there or elsewhere; its
        result is a RunError where that fails too. Raises any other exception of a task.
        """
        while self._running:
            (done, *_), _ = ray.wait(list(self._running))
            key = self._running.pop(done)
            try:
                result = ray.get(done)
            except RayTaskError as error:
                raise error.cause from None
            except RayError as error:
                result = RunError(f"Ray gave it up ({str(error).strip()})")
            yield key, result


def _outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    except (RequestError, RunError) as error:
        return error


@contextmanager
def cluster(address: str) -> "Iterator[Cluster[Any]]":
    """Join a cluster for the length of a block; tasks that run when the block ends are ended."""
    join(address)
    try:
        yield Cluster()
    finally:
        ray.shutdown()
