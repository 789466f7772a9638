"""What the shipped scenarios give over ten seeds: every figure of the README that depends on training.

Each scenario is run with the ten seeds from its own on, which nothing was tuned on; the runs stay in runs/seeds/, so
that a second call prints the same table at once and a stopped one goes on. An hour on two cores.
"""

import fedinv
from fedinv.results.replication import ReplicatedMeasure, Replication
from fedinv.results.wording import epsilon_text, spread_text

SEEDS = 10
SCENARIOS = (
    "hospital",
    "bank",
    "breast-cancer",
    "digits",
    "own-table",
    "own-table-regression",
    "hospital-adam",
    "hospital-dp",
    "hospital-dp-large",
    "bank-dp",
    "hospital-secure-aggregation",
    "hospital-inversion",
    "hospital-membership",
    "hospital-gan",
    "hospital-dp-attack",
    "faces-inversion",
    "bank-inversion",
)
"""Scenarios of the README's tables, cheapest first within a kind."""


def main() -> None:
    print(f"means with standard deviations over {SEEDS} seeds; in brackets the lowest and the highest seed")
    for name in SCENARIOS:
        scenario = fedinv.load(name)
        found = fedinv.replicate(scenario, seeds=SEEDS, out=f"runs/seeds/{name}", progress=False).results
        print(f"\n{name} (seeds {found.seeds[0]} to {found.seeds[-1]})", flush=True)
        for one in found.measures:
            print(f"  {one.attack:18} {one.variant:8} {one.target:6} {_line(one)}", flush=True)
        print(f"  {_model(found)}", flush=True)
        for seed, why in found.failed.items():
            print(f"  seed {seed} failed: {why}")


def _line(one: ReplicatedMeasure) -> str:
    scale = 100 if one.share else 1
    value, guess = spread_text(one.value, one.share), spread_text(one.guess, one.share)
    span = f"[{scale * one.value.low:.3g}, {scale * one.value.high:.3g}]"
    without = f"  undefended {spread_text(one.undefended, one.share)}" if one.undefended else ""
    return f"{one.measure:28} {value} {span}  guess {guess}{without}  of {one.count}"


def _model(found: Replication) -> str:
    if found.utility is None:
        return "model: not measurable"
    said = f"{found.metric} {spread_text(found.utility, False)}"
    if found.undefended is not None and found.lost is not None:
        lost = f"{100 * found.lost.mean:.1f}" + ("" if found.lost.sd is None else f" ± {100 * found.lost.sd:.1f}")
        said += f", undefended {spread_text(found.undefended, False)}: {lost} points lost"
    if found.epsilon is not None:
        said += f"; epsilon {epsilon_text(found.epsilon)} per {found.unit}"
    return said
