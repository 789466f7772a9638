"""How many threads torch computes with."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block torch computes with one thread; afterwards with as many as before.

    Local training and attacks compute with many small tensors, which several threads make slower: on a busy machine
    fifty times, so that an attack that is bounded in time finds nothing.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
