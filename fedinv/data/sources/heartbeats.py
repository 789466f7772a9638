"""Synthetic heartbeats: one lead of an electrocardiogram."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.federation.streams import stream
from fedinv.task.columns import Image
from fedinv.task.schema import Schema

Numbers = NDArray[np.float64]

RATE = 160.0
"""Samples a second."""
BEFORE = 0.4
"""Place of the R wave in a beat, as a share of its length."""
CLASSES = ("normal", "premature", "bundle branch block")
"""Kinds of a beat, in the order of the label's classes."""
SHARES = (0.6, 0.2, 0.2)
"""Share of each kind among the beats."""
WAVES: tuple[tuple[float, float, float], ...] = (
    (-0.160, 0.020, 0.12),
    (-0.028, 0.008, -0.12),
    (0.000, 0.011, 1.00),
    (0.030, 0.009, -0.22),
    (0.230, 0.040, 0.28),
)
"""Center (s), width (s, one standard deviation) and height (mV) of the waves P, Q, R, S and T of a normal beat."""


class Heartbeats(Dataset):
    """Beats of one lead, sums of Gaussian waves, with the label `beat`: normal, premature or bundle branch block.

    A person has own heights, widths and places of the waves P, Q, R, S and T (McSharry et al. 2003 describe a beat as
    a sum of five Gaussians); beats of one person differ in length, height, wandering baseline and noise. A premature
    beat of the ventricle has no P wave, a wide high QRS complex and an inverted T wave; with a bundle branch block the
    QRS complex is wide and has a second R wave. No real person's recording went into them.
    """

    people = "heartbeats"
    parties = "clinics"
    images = True

    source: Literal["heartbeats"]
    persons: int = Field(default=100, ge=2, le=10_000)
    """Number of people."""
    beats: int = Field(default=10, ge=1, le=1000)
    """Number of beats of each person."""
    samples: int = Field(default=128, ge=64, le=512)
    """Samples of a beat, at 160 a second; of shorter beats the middle."""

    def load(self, seed: int) -> Table:
        """Return the beats in a random order; a person's beats are of all kinds."""
        rng = stream(seed, "heartbeats")
        who = rng.permutation(np.repeat(np.arange(self.persons), self.beats))
        kinds = rng.choice(len(CLASSES), len(who), p=SHARES)
        volts = drawn(who, kinds, self.samples, rng)
        column = Image(
            name="lead II",
            channels=1,
            down=1,
            across=self.samples,
            mean=float(volts.mean()),
            std=float(volts.std()),
            low=float(volts.min()),
            high=float(volts.max()),
            rate=RATE,
            unit="mV",
        )
        schema = Schema(columns=(column,), label="beat", classes=CLASSES)
        return Table(schema=schema, columns={column.name: volts}, labels=kinds.astype(np.int64))


def drawn(who: NDArray[np.int64], kinds: NDArray[np.int64], samples: int, rng: np.random.Generator) -> Numbers:
    """Beats (n, samples), mV, of the persons `who` (n,), numbered from 0, and of these kinds (n,)."""
    n, persons = len(who), int(who.max()) + 1
    base = np.array(WAVES)
    own = np.stack(
        [
            base[:, 0] + rng.normal(0, (0.012, 0.003, 0.0, 0.003, 0.020), (persons, 5)),
            base[:, 1] * np.exp(rng.normal(0, 0.15, (persons, 5))),
            base[:, 2] * np.exp(rng.normal(0, 0.25, (persons, 5))),
        ],
        -1,
    )
    waves = own[who]
    waves[:, :, 2] *= np.exp(rng.normal(0, 0.06, (n, 5)))
    waves[:, :, 0] *= np.exp(rng.normal(0, 0.03, (n, 1)))
    second = np.zeros((n, 1, 3))
    second[:, :, 1] = 0.01
    waves = np.concatenate([waves, second], 1)
    early, blocked = kinds == 1, kinds == 2
    waves[early, 0, 2] = 0.0
    waves[early, 1:4, 1] *= 2.6
    waves[early, 1:4, 0] *= 2.2
    waves[early, 2, 2] *= 1.3
    waves[early, 4, 2] *= -1.1
    waves[blocked, 2, 1] *= 1.5
    waves[blocked, 3, 0] += 0.030
    waves[blocked, 5] = np.stack(
        [
            rng.normal(0.052, 0.004, blocked.sum()),
            rng.normal(0.014, 0.001, blocked.sum()),
            0.6 * waves[blocked, 2, 2] * np.exp(rng.normal(0, 0.1, blocked.sum())),
        ],
        -1,
    )
    seconds = (np.arange(samples) - BEFORE * samples) / RATE
    apart = (seconds[:, None] - waves[:, None, :, 0] - rng.normal(0, 0.004, (n, 1, 1))) / waves[:, None, :, 1]
    volts = (waves[:, None, :, 2] * np.exp(-0.5 * np.square(apart))).sum(-1)
    slow = rng.uniform(0.15, 0.5, (n, 1)) * 2 * np.pi * seconds + rng.uniform(0, 2 * np.pi, (n, 1))
    wander = rng.normal(0, 0.05, (n, 1)) * np.sin(slow)
    return np.asarray(volts + wander + 0.01 * rng.standard_normal(volts.shape))
