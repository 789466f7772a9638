"""How often the 95 % interval of a rate holds the truth, for victims whose records fare alike, by simulation.

The victims' chances are from a beta distribution, and their records equally many or not. A last table is of what no
interval can know: few victims fare unlike all others, and as often as not none of them is among those seen.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.results.intervals import clopper_pearson, share_interval

Numbers = NDArray[Any]
Chances = Callable[[int, np.random.Generator], Numbers]

TRIALS = 1000
"""Simulated attacks per figure."""
RECORDS = (2, 8, 32)
"""Records a victim, on average."""
VICTIMS = (4, 8, 12, 20, 40)
SHARES = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
"""True rates; each figure is the least coverage of any of them."""
CORRELATIONS = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Correlation of two records of one victim; at 1 all of a victim's records are rebuilt or none."""


def main() -> None:
    """Print the least coverage over the true rates, by records, victims and correlation, of two intervals."""
    rng = np.random.default_rng(0)
    print(f"{TRIALS} trials a figure, nominal coverage 0.95; beside it, records taken as independent")
    worst = 1.0
    for records, unequal in [*((records, False) for records in RECORDS), (8, True)]:
        print(f"\n{records} records a victim{', unequally many' if unequal else ''}")
        print(f"{'victims':>8} {'correlation':>12} {'fedinv':>8} {'at rate':>8} {'mean width':>11} {'independent':>12}")
        for victims in VICTIMS:
            for correlation in CORRELATIONS:
                given = {share: partial(_alike, share, correlation) for share in SHARES}
                worst = min(worst, _row(victims, correlation, records, unequal, given, rng))
    print(f"\nleast coverage: {worst:.3f} of nominal 0.95")
    print(
        "\nfew victims of whom all is rebuilt, and of the others 1 %: 32 records a victim, by the share of such victims"
    )
    for victims in VICTIMS:
        for odd in (0.02, 0.1):
            _row(victims, odd, 32, False, {odd + 0.01 * (1 - odd): partial(_odd, odd)}, rng)


def _row(
    victims: int,
    label: float,
    records: int,
    unequal: bool,
    given: Mapping[float, Chances],
    rng: np.random.Generator,
) -> float:
    """Print the least coverage over the rates of `given` and return it."""
    found = {
        share: _covered(share, _trials(victims, records, unequal, chances, rng)) for share, chances in given.items()
    }
    least = min(found, key=lambda share: found[share][0])
    width = np.mean([one[1] for one in found.values()])
    naive = min(one[2] for one in found.values())
    print(f"{victims:8} {label:12} {found[least][0]:8.3f} {least:8.3g} {width:11.3f} {naive:12.3f}", flush=True)
    return found[least][0]


def _covered(share: float, trials: Iterable[tuple[Numbers, Numbers]]) -> tuple[float, float, float]:
    """Coverage and mean width of the clustered interval, and coverage of one that takes records as independent."""
    hits, naive, width = 0, 0, 0.0
    for values, clusters in trials:
        low, high = share_interval(values, clusters)
        hits += low <= share <= high
        width += (high - low) / TRIALS
        low, high = clopper_pearson(values.sum(), len(values))
        naive += low <= share <= high
    return hits / TRIALS, width, naive / TRIALS


def _trials(
    victims: int, records: int, unequal: bool, chances: Chances, rng: np.random.Generator
) -> Iterator[tuple[Numbers, Numbers]]:
    """Hits and the victims that they belong to, both (n,), TRIALS times; unequal victims have 1 to thrice as many."""
    for _ in range(TRIALS):
        held = 1 + rng.poisson(records - 1, victims) * rng.integers(0, 4, victims) if unequal else [records] * victims
        clusters = np.repeat(np.arange(victims), held)
        yield (rng.random(len(clusters)) < chances(victims, rng)[clusters]).astype(float), clusters


def _alike(share: float, correlation: float, victims: int, rng: np.random.Generator) -> Numbers:
    """Chances (victims,) of a beta distribution around `share`, all of them `share` at correlation 0."""
    if correlation in (0.0, 1.0):
        return np.full(victims, share) if correlation == 0 else (rng.random(victims) < share).astype(float)
    other = 1 / correlation - 1
    return rng.beta(share * other, (1 - share) * other, victims)


def _odd(odd: float, victims: int, rng: np.random.Generator) -> Numbers:
    """Chances (victims,) of 1 for a share `odd` of the victims, 0.01 for the others."""
    return np.where(rng.random(victims) < odd, 1.0, 0.01)
