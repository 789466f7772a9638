"""Named streams of randomness: one generator for each (seed, purpose, client, round), independent of the order of use.

Keyed on the partition and never on Flower's node ids, so that every engine draws the same numbers.
"""

import hashlib

import numpy as np
import torch


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the numpy generator of a purpose, e.g. ``stream(7, "batches", client, round)``."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    # numpy turns a list of numbers into these very words, and takes its time
    words = np.frombuffer(seed.to_bytes(-(-seed.bit_length() // 32) * 4 or 4, "little") + digest, np.uint32)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def torch_stream(rng: np.random.Generator) -> torch.Generator:
    """Return a torch generator seeded by the next draw of a numpy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))
