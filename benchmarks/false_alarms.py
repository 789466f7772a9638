"""False alarms of thresholds set on ten honest trainings, on others: by messages, and by the spread of trainings.

Sixty honest trainings of one federation of `detectors` (the second, or those named: `python -m benchmarks.false_alarms
1 3`). Two hundred times ten of them set thresholds, and all others are reported on. A CPU minute a federation.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import fedinv
from benchmarks.detectors import CASES
from fedinv.studies.duel import cells, contestants, detection
from fedinv.studies.duel.cells import scores_of

TRAININGS = 60
FIRST = 101
"""Seed of the first of them; the rule was chosen on trainings of seeds from 1,000 on."""
SPLITS = 200
SETTING = 10
"""Trainings that set thresholds, as in a duel."""
TOGETHER = ("bias-size", "broadcast-hash", "repeated-weights")
"""Detectors whose alarms are counted together: the combination that a duel of the second federation chose."""


def main() -> None:
    """Print the mean share of honest messages of other trainings that is flagged, by each rule at each rate."""
    torch.set_num_threads(1)
    named = [int(name) for name in sys.argv[1:] if name.isdecimal()] or [2]
    for number in named:
        case = CASES[number - 1]
        kinds, honest = scored(number)
        print(f"{case.scenario}, {case.width}-{case.width}, {case.says}: {TRAININGS} honest trainings", flush=True)
        for rate in (0.01, 0.001):
            for name in (*kinds, " + ".join(TOGETHER)):
                members = [kinds.index(one) for one in name.split(" + ")]
                found = [f"{100 * share:.2f} %" for share in alarms(members, honest, rate)]
                print(f"  {name} at {100 * rate:g} %: {found[0]} set by messages, {found[1]} by trainings", flush=True)


def scored(number: int) -> tuple[list[str], detection.Honest]:
    """The detectors' kinds, and their scores of all messages of the honest trainings of a federation."""
    case = CASES[number - 1]
    declared = fedinv.load(case.scenario, **{"model.hidden": [case.width, case.width], **case.changes})
    looking = contestants.detectors(declared)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for place in range(TRAININGS):
            cell = cells.honest(declared, looking, FIRST + place)
            found.append(cells.run_cell(cell.scenario.to_toml(), cell.rounds, Path(folder) / str(place)))
    of = np.repeat(np.arange(TRAININGS), [len(one.scores) for one in found])
    highest = tuple(type(one).highest for one in looking)
    return [one.kind for one in looking], detection.Honest(scores_of(found, len(looking)), of, highest)


def alarms(members: list[int], honest: detection.Honest, rate: float) -> tuple[float, float]:
    """Mean share of the messages of other trainings that is flagged: messages taken for draws, and trainings."""
    rng, shares = np.random.default_rng(0), []
    for _ in range(SPLITS):
        setting = np.isin(honest.trainings, rng.permutation(TRAININGS)[:SETTING])
        scores, of = honest.scores[setting], honest.trainings[setting]
        rules = [detection.Honest(scores, one, honest.highest) for one in (np.zeros_like(of), of)]
        panels = [detection.panel(members, one, rate) for one in rules]
        shares.append([0.0 if one is None else one.flags(honest.scores[~setting]).mean() for one in panels])
    by_messages, by_trainings = np.mean(shares, axis=0)
    return float(by_messages), float(by_trainings)


if __name__ == "__main__":
    main()
