"""The clock that attacks' budgets are measured by: of their own computing, not of whatever else the machine does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from fedinv.attack import Limit

CPU = torch.device("cpu")
SPARE = 0.2
"""Share of a limit that is kept for verifying what a search has found when its time is over."""
NEVER = float("inf")
_deadlines: ContextVar[tuple[float, float]] = ContextVar("deadlines", default=(NEVER, NEVER))


class OutOfTime(Limit):
    """The end of a search whose time is over; whoever searched keeps what was found before."""


def seconds(device: torch.device = CPU) -> float:
    """Seconds on a clock that only differences of mean anything.

    On a CPU it counts what this thread computed, so that a busy machine ends no search sooner and the same seed makes
    the same claim. A GPU computes while the thread waits for it: there it is the time on the wall.
    """
    return time.thread_time() if device.type == "cpu" else time.monotonic()


@contextmanager
def limited(most: float) -> Iterator[None]:
    """Have `check` raise OutOfTime once `most` seconds were computed on the CPU, or an enclosing limit is reached.

    A search ends a fifth earlier, so that what it found can be verified under `finishing`.
    """
    search, last = _deadlines.get()
    now = seconds()
    token = _deadlines.set((min(search, now + (1 - SPARE) * most), min(last, now + most)))
    try:
        yield
    finally:
        _deadlines.reset(token)


@contextmanager
def finishing() -> Iterator[None]:
    """Let the computation within it use what the enclosing `limited` has kept for verifying."""
    last = _deadlines.get()[1]
    token = _deadlines.set((last, last))
    try:
        yield
    finally:
        _deadlines.reset(token)


def over() -> bool:
    """Whether the time of the enclosing `limited` is over; never without one."""
    return seconds() > _deadlines.get()[0]


def check() -> None:
    """Raise OutOfTime where the time is over; called between the parts of a computation that may take long."""
    if over():
        raise OutOfTime("its time was over before what it found was verified")
