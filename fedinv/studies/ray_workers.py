"""Runs of a study spread over the machines of a Ray cluster."""

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
    """Tasks under way on a cluster, by key: what a Pool is on one machine."""

    def __init__(self) -> None:
        self._task: Any = ray.remote(num_cpus=1)(_outcome)
        self._running: dict[Any, Key] = {}

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a function of a module where a CPU is free, or put it in line."""
        self._running[self._task.remote(function, arguments)] = key

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Each task's key and result, or the RequestError or RunError that it ended with, as they finish.

        More may be submitted meanwhile. A task whose worker or machine dies is tried again there or elsewhere; it
        ends with a RunError where that does not help.
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
    """Join a cluster for a block; what still runs when it ends is ended too."""
    join(address)
    try:
        yield Cluster()
    finally:
        ray.shutdown()
