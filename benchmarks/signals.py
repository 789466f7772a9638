"""Decibels at which heartbeats come back behind a one-dimensional convolutional network, beside the guess.

Seeds 101 to 110, which nothing was tuned on; the guess is the mean sample everywhere, matched one to one like a claim.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.attacking import build
from benchmarks.victims import Victim, victim
from fedinv.attack import Attack, Claim
from fedinv.judge.images import pair, quality
from fedinv.results.intervals import mean_interval

SEEDS = range(101, 111)


def psnr(one: Victim, claim: Claim) -> NDArray[np.float64]:
    """PSNR of each true record's claim, matched one to one; the guess's where nothing is claimed of it."""
    table = one.people.table
    column = table.schema.image
    assert column is not None
    true = table.take(one.rows).columns[column.name]
    found = quality(np.repeat(table.schema.decode(table.schema.guess(1))[column.name], len(true), 0), true, column).psnr
    if len(claim.records):
        ours, theirs = pair(table.schema.decode(claim.records)[column.name], true)
        found[theirs] = quality(table.schema.decode(claim.records)[column.name][ours], true[theirs], column).psnr
    return found


def main() -> None:
    """Heartbeats, convnet-1d, one step of FedSGD."""
    torch.set_num_threads(1)
    attacks = (build("gradient-matching", iterations=500), build("feature-inversion"))
    for size in (1, 4, 8, 16):
        for attack in attacks:
            _line(f"{size} records, {attack.kind}", attack, [f"training.batch_size={size}"])


def _line(name: str, attack: Attack, settings: Sequence[str]) -> None:
    found, guess, verified, seconds = [], [], 0, []
    for seed in SEEDS:
        one = victim("heartbeats", [*settings, f"seed={seed}"])
        begun = time.process_time()
        claim = one.attacked(attack)
        seconds.append(time.process_time() - begun)
        found.append(psnr(one, claim))
        guess.append(psnr(one, Claim(claim.records[:0], torch.zeros(0))))
        verified += int(claim.verified.sum())
    each, prior = np.concatenate(found), np.concatenate(guess)
    low, high = mean_interval(each, np.repeat(np.arange(len(found)), len(found[0])), bounds=(0.0, 100.0))
    print(
        f"{name:32} PSNR {each.mean():5.1f} dB [{low:.1f}, {high:.1f}] (guess {prior.mean():.1f})  above 60 dB "
        f"{int((each > 60).sum())} of {len(each)}  verified {verified}  CPU {np.mean(seconds):5.2f} s "
        f"(longest {max(seconds):.1f})",
        flush=True,
    )
