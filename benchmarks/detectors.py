"""Deviations against the detectors of clients that vet weights, and adaptive ones: `fedinv duel` over federations.

Ten honest trainings are reported on and ten others set thresholds, 1,000 honest messages each, so that false-alarm
rates of 1 % and of 0.1 % are stated. Four to twelve CPU minutes a federation; numbers run single ones, as in
`python -m benchmarks detectors 1 3`.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fedinv
from fedinv.report.duel.text import share_text
from fedinv.results.duel import COMBINED, Duel
from fedinv.results.wording import hits, percent

ONE_STEP = {"training.algorithm": "fedsgd", "training.batch_size": 16, "training.epochs": 1, "training.lr": 0.05}


@dataclass(frozen=True)
class Case:
    """A federation of a shipped scenario with a perceptron of two equal layers."""

    scenario: str
    width: int
    says: str
    changes: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("hospital", 100, "20 clients x 16, FedSGD", ONE_STEP),
    Case("hospital", 100, "20 clients x 16, FedAvg 5 epochs by 8"),
    Case(
        "bank", 100, "10 banks, FedSGD by 16, 10 rounds", {"federation.rounds": 10, "attacker.watch": {"rounds": [1]}}
    ),
    Case("hospital", 512, "20 clients x 16, FedAvg 5 epochs by 8"),
)


def main() -> None:
    """Print what the best combination sees of each deviation, and what adaptive deviations get past it."""
    named = [int(name) for name in sys.argv[1:] if name.isdecimal()]
    for number, case in enumerate(CASES, 1):
        if named and number not in named:
            continue
        changes = {"model.hidden": [case.width, case.width], **case.changes}
        with tempfile.TemporaryDirectory() as folder:
            declared = fedinv.load(case.scenario, **changes)
            found = fedinv.duel(declared, out=Path(folder) / "duel", progress=False).results
        print(f"{case.scenario}, {case.width}-{case.width}, {case.says}", flush=True)
        show(found)


def show(found: Duel) -> None:
    """Print a duel's figures, a line for each deviation and each evasion."""
    for best in found.combinations:
        names = " + ".join(f"{one.detector} > {one.threshold:.3g}" for one in best.members)
        print(f"  best at {100 * best.rate:g} % false alarms: {names}")
    alarms = next(one for one in found.alarms if one.detector == COMBINED)
    print(f"  false alarms on {found.honest[1]} others: {share_text(alarms.at_1)} | {share_text(alarms.at_01)} %")
    seen = {one.deviation: one for one in found.seen if one.detector == COMBINED}
    for one in found.opponents:
        whole = "-" if one.recovered is None else f"{hits(one.recovered)} of {one.recovered.count}"
        line = seen[one.deviation]
        print(f"  {one.deviation}: flagged {share_text(line.at_1)} | {share_text(line.at_01)} %, {whole} records")
    for evasion in found.evasions:
        how = "as it is" if evasion.plain else "the model itself" if evasion.honest else evasion.how
        said = f"{percent(evasion.recovered.value)} of records, flagged {share_text(evasion.flagged)} %"
        print(f"    {evasion.deviation}, {how}: {said}, past {percent(evasion.past)}")
    for name, why in found.not_tried.items():
        print(f"  not tried: {name}: {why}")
    print(f"  {found.recommendation}", flush=True)


if __name__ == "__main__":
    main()
