"""Named streams of randomness: one generator for each (seed, purpose, client, round), independent of the order of use.

Keyed on the partition and never on Flower's node ids, so that every engine draws the same numbers.
"""

import hashlib

import numpy as np
import torch


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the numpy generator for a purpose, e.g. ``stream(7, "batches", client, round)``."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    # the words that numpy would make of a list of these numbers, only faster
    words = np.frombuffer(seed.to_bytes(-(-seed.bit_length() // 32) * 4 or 4, "little") + digest, np.uint32)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def sealed_stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator for a purpose that does not hold the seed, only a digest of seed and names.

    Whoever has the generator finds a seed that can be guessed by trying, but no secret of 128 bits.
    """
    digest = hashlib.sha256("/".join(map(str, ("sealed", seed, *names))).encode()).digest()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(np.frombuffer(digest, np.uint32))))


def hidden_seed(secret: str | None, seed: int) -> int:
    """Seed of what the server must not be able to repeat: a digest of a run's secret and seed; the seed without one."""
    if secret is None:
        return seed
    return int.from_bytes(hashlib.sha256(f"hidden/{secret}/{seed}".encode()).digest(), "little")


def torch_stream(rng: np.random.Generator) -> torch.Generator:
    """Return a torch generator seeded by the next draw of a numpy generator."""
    return torch.Generator().manual_seed(int(rng.integers(2**63)))
