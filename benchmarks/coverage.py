"""How often the 95 % interval of a rate holds the truth, for victims whose records fare alike, by simulation."""

import numpy as np
from numpy.typing import NDArray

from fedinv.results.intervals import clopper_pearson, share_interval

TRIALS = 1000
"""Simulated attacks per figure."""
RECORDS = 8
"""Records a victim."""
VICTIMS = (4, 8, 12, 20, 40)
SHARES = (0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99)
"""True rates; each figure is the least coverage of any of them."""
CORRELATIONS = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Correlation of two records of one victim; at 1 all of a victim's records are rebuilt or none."""


def main() -> None:
    """Print the least coverage over the true rates, by victims and correlation, of three intervals."""
    rng = np.random.default_rng(0)
    print(f"{'victims':>8} {'correlation':>12} {'fedinv':>8} {'at rate':>8} {'mean width':>11} {'Clopper-Pearson':>16}")
    worst = 1.0
    for victims in VICTIMS:
        for correlation in CORRELATIONS:
            found = {share: _covered(victims, share, correlation, rng) for share in SHARES}
            least = min(found, key=lambda share: found[share][0])
            worst = min(worst, found[least][0])
            width = np.mean([one[1] for one in found.values()])
            naive = min(one[2] for one in found.values())
            print(
                f"{victims:8} {correlation:12} {found[least][0]:8.3f} {least:8} {width:11.3f} {naive:16.3f}", flush=True
            )
    print(f"least coverage: {worst:.3f} of nominal 0.95, {TRIALS} trials a figure")


def _covered(victims: int, share: float, correlation: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Coverage and mean width of the clustered interval, and coverage of one that takes records as independent."""
    clusters = np.repeat(np.arange(victims), RECORDS)
    hits, naive, width = 0, 0, 0.0
    for _ in range(TRIALS):
        values = _outcomes(victims, share, correlation, rng).ravel()
        low, high = share_interval(values, clusters)
        hits += low <= share <= high
        width += (high - low) / TRIALS
        low, high = clopper_pearson(values.sum(), len(values))
        naive += low <= share <= high
    return hits / TRIALS, width, naive / TRIALS


def _outcomes(victims: int, share: float, correlation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Hits (victims, RECORDS): each victim has a chance of its own, from a beta distribution around `share`."""
    if correlation in (0.0, 1.0):
        chances = np.full(victims, share) if correlation == 0 else (rng.random(victims) < share).astype(float)
    else:
        other = 1 / correlation - 1
        chances = rng.beta(share * other, (1 - share) * other, victims)
    return (rng.random((victims, RECORDS)) < chances[:, None]).astype(float)
