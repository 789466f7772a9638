"""The clock that attacks' budgets are measured by: of their own computing, not of whatever else the machine does."""

import time

import torch

CPU = torch.device("cpu")


def seconds(device: torch.device = CPU) -> float:
    """Seconds on a clock that only differences of mean anything.

    On a CPU it counts what this thread computed, so that a busy machine ends no search sooner and the same seed makes
    the same claim. A GPU computes while the thread waits for it: there it is the time on the wall.
    """
    return time.thread_time() if device.type == "cpu" else time.monotonic()
