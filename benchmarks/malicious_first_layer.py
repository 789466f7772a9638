"""Crafted first layers: records read to every digit, false claims and CPU seconds, over ten seeds.

One client of hospital or bank, whose update is seen; dictionary only, or with 200 auxiliary records of people that it
does not hold. Beside imprint's rows: n (1 - 1/K)^(n - 1), as many of n records as are alone in K bins that are even.
`slabs` watches ten rounds on the same records. Some CPU minutes; two seeds with --quick.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from benchmarks.malicious import SEEDS, Case, Read, counted, trained
from fedinv import plugins
from fedinv.attack import Exchange, Observation, Sample
from fedinv.data.population import Population
from fedinv.deviation import Deviation, Turn
from fedinv.federation.streams import stream
from fedinv.judge.truth import population_of
from fedinv.task.models import build, state

AUXILIARY = 200
"""Auxiliary records, of people whom the client does not hold."""


def main() -> None:
    """Print a row a federation."""
    torch.set_num_threads(1)
    seeds = SEEDS[:2] if "--quick" in sys.argv else SEEDS
    for table in ("hospital", "bank"):
        for width in (512, 100):
            for each in (64, 256):
                one_step(Case(table, width, 1, each), seeds)
            row("imprint", Case(table, width, 1, 64, layers=1), seeds)
            row("qbi", Case(table, width, 1, 64, layers=1), seeds)
        for each in (64, 256):
            row("imprint", Case(table, 512, 1, each, epochs=5), seeds)
            row("imprint", Case(table, 512, 1, each, epochs=5), seeds, sparse=True)
        for layers in (2, 1):
            row("slabs", Case(table, 100, 1, 1000, layers=layers, rounds=10), seeds)
        row("slabs", Case(table, 512, 1, 1000, rounds=4), seeds)


def one_step(case: Case, seeds: Sequence[int]) -> None:
    """Print what each deviation of one round reads; of two of them as their papers read, and by elimination."""
    for auxiliary in (0, AUXILIARY):
        row("imprint", case, seeds, auxiliary)
        for kind in ("trap-weights", "qbi"):
            row(kind, case, seeds, auxiliary, eliminate=False)
            row(kind, case, seeds, auxiliary)


def row(kind: str, case: Case, seeds: Sequence[int], auxiliary: int = 0, **settings: bool) -> None:
    """Print what a deviation reads, over the seeds."""
    deviation = plugins.load("deviations", kind).model_validate({"kind": kind, **settings})
    assert isinstance(deviation, Deviation)
    found = [over_rounds(deviation, case, seed, auxiliary) for seed in seeds]
    right, of, false = (sum(getattr(one, what) for one in found) for what in ("right", "of", "false"))
    how = f"FedAvg {case.epochs}" if case.epochs else "FedSGD"
    alone = f", formula {case.each * (1 - 1 / case.width) ** (case.each - 1):.1f}" if kind == "imprint" else ""
    said = "".join(f" {key}={value}" for key, value in settings.items())
    print(
        f"  {kind}{said}{f', {auxiliary} auxiliary' if auxiliary else ''}, {case.table}, "
        f"{' x '.join([str(case.width)] * case.layers)} units, {case.each} records, "
        f"{how}, {case.rounds} round(s): mean {right / len(found):.1f} "
        f"of {case.each} to every digit ({100 * right / of:.1f} %, least {min(one.right for one in found)}{alone}), "
        f"{sum(one.near for one in found) / len(found):.1f} within tolerance, false {false}; "
        f"{np.median([one.seconds for one in found]):.2f} CPU s",
        flush=True,
    )


def over_rounds(deviation: Deviation, case: Case, seed: int, auxiliary: int) -> Read:
    """Craft and train as often as there are rounds, and read once at the end."""
    scenario = case.scenario(seed)
    people = population_of(scenario)
    schema, seen = people.table.schema, list[Exchange]()
    knows = scenario.knowledge(schema, adaptive=True, records=case.each)
    if auxiliary:
        knows = replace(knows, auxiliary=_others(people, auxiliary))
    base = {k: v.clone() for k, v in state(build(scenario.model, schema.shape, schema.outputs, seed)).items()}
    seconds = 0.0
    for round_ in range(1, case.rounds + 1):
        begun = time.process_time()
        turn = Turn(0, round_, (0,), (0,), tuple(seen))
        sent = deviation.craft(base, knows, turn, stream(seed, "crafting", round_))
        seconds += time.process_time() - begun
        update = {name: tensor.float() for name, tensor in trained(scenario, people, 0, sent).items()}
        seen.append(Exchange(round_, sent, update, case.each))
    begun = time.process_time()
    claim = deviation.claim(Observation((0,), tuple(seen)), knows, stream(seed, "reading"), lambda _: None)
    return counted(claim, people, (0,), seconds + time.process_time() - begun)


def _others(people: Population, count: int) -> Sample:
    """Records that the client does not hold."""
    rows = np.setdiff1d(np.arange(len(people.inputs)), people.shares[0])[:count]
    return Sample(people.inputs[rows], people.labels[rows])
