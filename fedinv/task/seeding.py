"""Seeds torch's own generator for a block of code that draws from it, such as layers that are made or drop units."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Within the block torch draws on the CPU from this seed; afterwards its generator is where it was before.

    With None nothing is changed, and the generator goes on from where it is. `torch.manual_seed` is not called: it
    keeps a stack trace for each kind of accelerator that is not there, which takes longer than a small training.
    """
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        yield
