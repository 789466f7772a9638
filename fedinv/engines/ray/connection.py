"""Starts Ray on this machine, or joins a running cluster."""

import logging
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from fedinv.errors import RequestError


def start(folder: str) -> None:
    """Start Ray on this machine, with all its files in `folder`."""
    _connect("local", _temp_dir=folder)


def join(address: str) -> None:
    """Join a cluster; its workers import from this process's paths, which must exist there, and use one thread.

    Raises RequestError for an address at which no cluster answers, or one that refuses the connection.
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
