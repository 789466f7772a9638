"""Ray, started on this machine or joined where it runs, and work spread over the machines of a cluster."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from fedinv.errors import RequestError, RunError

Key = TypeVar("Key")


def start(folder: str) -> None:
    """Start Ray on this machine, with all its files in a folder."""
    _connect("local", _temp_dir=folder)


def join(address: str) -> None:
    """Join a cluster; its workers import what this process can import, from the same paths, and use one thread.

    Raises RequestError for a cluster that is not there or does not take us.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, ValueError) as error:
        raise RequestError(
            f"--ray-address {address}: nothing answers there ({error}); start a cluster with: ray start --head "
            f"--port 6379, and write HOST:6379"
        ) from error
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path)
    told = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    try:
        _connect(address, runtime_env={"env_vars": told})
    except (RuntimeError, ValueError, ConnectionError, RayError) as error:
        raise RequestError(f"--ray-address {address}: cannot be joined ({str(error).strip()})") from error


def _connect(address: str, **settings: Any) -> None:
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what a later Ray does with GPUs
        ray.init(address, **quiet, **settings)


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
