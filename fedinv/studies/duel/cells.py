"""One run of a duel: a federation whose clients score what they are sent, by an honest server or one that deviates.

A cell is a folder named by a hash of its scenario, its records and the code; what was found is kept in it, so that a
second duel runs only what is new.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from fedinv import plugins
from fedinv.attack import Attack
from fedinv.detector import Detector
from fedinv.deviation import Deviation
from fedinv.engines import Options
from fedinv.errors import RequestError
from fedinv.results.run import AttackResult, InferenceResult
from fedinv.runs import provenance, run
from fedinv.runs.context import TrainedRun, with_secret
from fedinv.runs.provenance import Provenance
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.checkpoints import ClientScores, read_vetting
from fedinv.storage.lock import locked
from fedinv.storage.run_folder import RunFolder
from fedinv.strict import Strict
from fedinv.studies.duel.detection import Panel, Scores
from fedinv.task.optimizers import CONSTANT
from fedinv.task.threads import one_thread

WATCHED = 4
"""Clients whose updates are read in a run with a deviation, at most; all clients' detectors score what they get."""
LONGEST = 10
"""Rounds, at most, in which a server deviates whose deviation takes several."""


class Found(Strict):
    """What one run of a duel found; the content of a cell."""

    scores: tuple[ClientScores, ...]
    """Scores of the messages that count: those of all rounds of an honest server, or those that were crafted."""
    records: AttackResult | None = None
    """Judged read-out of a deviation that reads records."""
    answer: InferenceResult | None = None
    """Judged read-out of a deviation that asks something else."""


@dataclass(frozen=True)
class Cell:
    """A run of a duel."""

    name: str
    """Name shown while it runs."""
    scenario: Scenario
    """Scenario of the run, with all detectors in place of its own, and one attack or none."""
    rounds: tuple[int, ...]
    """Rounds whose messages count."""
    unless: Panel | None = None
    """Detectors by which updates are not read, since none is sent, where all messages that count are flagged."""

    def folder(self, cache: Path, made: Provenance) -> Path:
        """The cell's folder below `cache`, named by all that it depends on; `made` is what the duel is made from."""
        content = self.scenario.model_dump(mode="json", exclude={"name"})
        parts: list[Any] = ["duel", made.version, made.records, made.code, made.attacks, content]
        if self.unless is not None:
            parts += [self.unless.members, self.unless.thresholds]
        text = json.dumps(parts, sort_keys=True)
        return cache / sha256(text.encode()).hexdigest()[:16]


def honest(scenario: Scenario, detectors: Sequence[Detector], seed: int) -> Cell:
    """The whole training of the scenario by a server that follows the protocol."""
    watch = {"rounds": [1], "clients": 1}
    changed = _changed(scenario, detectors, seed, {"server": {"kind": "curious"}, "attacks": []}, watch)
    return Cell("honest", changed, tuple(range(1, scenario.federation.rounds + 1)))


def crafted(
    scenario: Scenario, detectors: Sequence[Detector], seed: int, tables: Sequence[Mapping[str, Any]], round_: int
) -> Cell:
    """A training whose server deviates in a round, or in all up to the last where its deviation takes several.

    `tables` are those of [[server.deviations]]. Raises RequestError where the scenario cannot have them.
    """
    made = [parsed(table) for table in tables]
    several = any(type(one).looks_back or type(one).takes_rounds for one in made)
    last = min(scenario.federation.rounds, LONGEST)
    watched = list(range(1, last + 1)) if several else [round_]
    # a training that changes with the number of its rounds is not stopped early
    short = not scenario.defenses and scenario.training.schedule == CONSTANT
    server = {"kind": "malicious", "deviations": [dict(table) for table in tables]}
    changes: dict[str, Any] = {"server": server, "attacks": [reader(made).model_dump(mode="json", exclude_none=True)]}
    if short:
        changes["federation"] = {"rounds": watched[-1]}
    clients = min(WATCHED, scenario.federation.participants)
    changed = _changed(scenario, detectors, seed, changes, {"rounds": watched, "clients": clients})
    counted = [set(one.crafted_in(last)) for one in made] if several else [{round_}]
    return Cell("+".join(one.kind for one in made), changed, tuple(sorted(set[int]().union(*counted) & set(watched))))


def parsed(table: Mapping[str, Any]) -> Deviation:
    """The deviation of a table. Raises RequestError where it is none."""
    found = plugins.load("deviations", str(table.get("kind"))).model_validate(dict(table))
    if not isinstance(found, Deviation):
        raise RequestError(
            f"deviation {table.get('kind')!r}: its class does not derive from fedinv.deviation.Deviation"
        )
    return found


def reader(made: Sequence[Deviation]) -> Attack:
    """The attack that reads updates of these deviations: of those on their question, the first."""
    asks = next((one.asks for one in made if one.asks is not None), "records")
    for kind, attack in plugins.loaded("attacks").items():
        if attack.reads_deviations:
            one: Attack = attack.model_validate({"kind": kind})
            if one.asks == asks:
                return one
    raise RequestError(f"no attack reads updates of a deviation that asks about {asks}")


def _changed(
    scenario: Scenario,
    detectors: Sequence[Detector],
    seed: int,
    changes: Mapping[str, Any],
    watch: Mapping[str, Any],
) -> Scenario:
    """The scenario with another seed, all detectors, other tables and another watch. Raises RequestError if invalid."""
    document = scenario.model_dump(mode="json", exclude_none=True)
    document["vetting"] = [one.model_dump(mode="json", exclude_none=True) | {"action": "report"} for one in detectors]
    document["seed"] = seed
    document["attacker"]["watch"] = dict(watch)
    document["federation"] |= changes.get("federation", {})
    document |= {key: value for key, value in changes.items() if key != "federation"}
    return parse(document, "duel")


def scores_of(found: Sequence[Found], width: int) -> Scores:
    """The scores of all messages of some runs, (messages, detectors); -inf where a detector had nothing to look at."""
    rows = [[-np.inf if one is None else one for one in pair.scores] for each in found for pair in each.scores]
    return np.array(rows, float).reshape(len(rows), width)


@one_thread()
def run_cell(toml: str, rounds: Sequence[int], folder: Path, unless: Panel | None = None) -> Found:
    """Run a cell, or read what its folder keeps of it; runs in a process of the pool.

    Raises RequestError or RunError with the reason where it cannot be run.
    """
    from fedinv.runs.evaluation import judged_last
    from fedinv.scenario.reading import loads

    kept = folder / "found.json"
    with locked(folder, wait=True):
        if kept.is_file():
            return files.read_model(Found, kept)
        scenario = loads(toml)
        run.check(scenario, "inline")
        place = RunFolder(folder / "run")
        place.clear()
        provenance.write(place.root, provenance.of(scenario))
        made = TrainedRun(with_secret(scenario, place), place)
        files.write(place.scenario, scenario.to_toml())
        run.train(made, options=Options(resumable=False))  # what is not finished begins anew
        scores = [one for one in read_vetting(place.vetting).scores if one.round in rounds]
        found = Found(scores=tuple(scores))
        refused = unless is not None and bool(unless.flags(scores_of([found], len(scenario.vetting))).all())
        judged = judged_last(made, scenario.attacks[0]) if scenario.attacks and not refused else None
        found = Found(
            scores=found.scores,
            records=judged if isinstance(judged, AttackResult) else None,
            answer=judged if isinstance(judged, InferenceResult) else None,
        )
        files.write_json(kept, found.model_dump(mode="json"))
        shutil.rmtree(place.root)
    return found
