"""Runs a duel: honest trainings, each deviation against all detectors, then what adaptive deviations change.

Thresholds, and the choice of the best combination, come from other seeds than all that is reported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedinv.detector import Detector
from fedinv.errors import RequestError, RunError
from fedinv.results.duel import Duel
from fedinv.results.wording import hits
from fedinv.runs import provenance
from fedinv.scenario.scenario import Scenario
from fedinv.studies.duel import cells, conclusion
from fedinv.studies.duel.cells import Cell, Found
from fedinv.studies.duel.contestants import Contestant
from fedinv.studies.workers import Workers, pool

Named = Callable[[float, str], None]
"""Function that is called with the share of the work that is done, 0 to 1, and the name of the current work."""
EACH = 5
"""Honest trainings for each one in which a deviation is tried: false alarms are rarer than what is flagged. To choose
the combination, and to evade, it is tried in half as many."""
FIRST = "round 1"
"""Name of the evasion that deviates before clients have anything to compare with."""
PLAIN = ""
"""Name of a deviation that evades nothing."""


@dataclass(frozen=True)
class Key:
    """One run of a duel."""

    deviation: str
    """Deviation in short syntax; empty for an honest server."""
    how: str
    """What an adaptive deviation changes; PLAIN where it is as it is."""
    seed: int
    """Seed of the run."""


@dataclass(frozen=True)
class Plan:
    """The runs of a duel."""

    scenario: Scenario
    """Scenario whose server, vetting, attacks and watch are replaced."""
    contestants: Sequence[Contestant]
    """Deviations, each of which is tried against all detectors."""
    detectors: Sequence[Detector]
    """Detectors that score every message."""
    repetitions: int = 10
    """Number of honest trainings that are reported on, and as many others that set thresholds."""
    adaptive: bool = True
    """Whether adaptive deviations are tried."""
    not_tried: Mapping[str, str] = field(default_factory=dict)
    """Reason by name for what is left out."""

    @property
    def seeds(self) -> list[int]:
        """The seeds reported on: the scenario's and those after it."""
        return [self.scenario.seed + i for i in range(self.repetitions)]

    @property
    def threshold_seeds(self) -> list[int]:
        """The seeds that set thresholds, the ones after."""
        return [self.scenario.seed + self.repetitions + i for i in range(self.repetitions)]

    def tried_with(self, seeds: Sequence[int]) -> list[tuple[int, int]]:
        """Those of some seeds with which deviations are tried, each with the round of it that they deviate in."""
        rounds = self.scenario.federation.rounds
        each = EACH if seeds[0] == self.scenario.seed else 2 * EACH
        some = seeds[: -(-len(seeds) // each)]
        return [(seed, 2 + i % (rounds - 1) if rounds > 1 else 1) for i, seed in enumerate(some)]


def duel(plan: Plan, folder: Path, workers: Workers, progress: Named) -> Duel:
    """Run all cells, which are kept in `.cells` beside the duel's folder, and draw the conclusions.

    `progress` is called with the share that is done and the name of the run that has been going longest. Raises
    RunError when the scenario fails with an honest server.
    """
    cache = folder.absolute().parent / ".cells"
    found, refused = _found(plan, cache, workers, progress)
    provenance.write(folder, provenance.of(plan.scenario))
    return conclusion.concluded(plan, found, refused)


def _found(plan: Plan, cache: Path, workers: Workers, progress: Named) -> tuple[dict[Key, Found], dict[Key, str]]:
    """What each run found, and why those that did not run did not."""
    first = _first(plan)
    later = _later(plan) if plan.adaptive else {}
    refused = {key: one for key, one in {**first, **later}.items() if isinstance(one, str)}
    found: dict[Key, Found] = {}
    waiting: dict[Key, None] = {}
    total = len(first) + len(later)
    attacks = [attack for cell in first.values() if isinstance(cell, Cell) for attack in cell.scenario.attacks]
    made = provenance.of(plan.scenario, attacks)
    with pool(workers, max(1, total), "duel") as work:

        def submit(key: Key, cell: Cell) -> None:
            place = cell.folder(cache, made)
            work.submit(key, cells.run_cell, cell.scenario.to_toml(), cell.rounds, place)
            waiting[key] = None

        for key, cell in first.items():
            if isinstance(cell, Cell):
                submit(key, cell)
        open_ = {one.name: {key for key in waiting if key.deviation == one.name} for one in plan.contestants}
        progress(0.0, _shown(waiting))
        for key, outcome in work.finished():
            if isinstance(outcome, Found):
                found[key] = outcome
            elif not key.deviation:
                raise RunError(f"the scenario with an honest server, seed {key.seed}: {outcome}")
            else:
                refused[key] = str(outcome)
            waiting.pop(key)
            mine = open_.get(key.deviation, set())
            mine.discard(key)
            if key.how == PLAIN and key.deviation and not mine:
                todo = {other: cell for other, cell in later.items() if other.deviation == key.deviation}
                read = any(_read(one) for other, one in found.items() if other.deviation == key.deviation)
                for other, cell in todo.items():
                    if read and isinstance(cell, Cell):
                        submit(other, cell)
                    else:
                        total -= 1
            progress(min(1.0, (len(found) + len(refused)) / max(1, total)), _shown(waiting))
    progress(1.0, "")
    return found, refused


def _first(plan: Plan) -> dict[Key, Cell | str]:
    """The honest runs and those of deviations that evade nothing; a reason in place of a run that cannot be had."""
    found: dict[Key, Cell | str] = {}
    sides = (plan.seeds, plan.threshold_seeds)
    for seed, round_ in [tried for side in sides for tried in plan.tried_with(side)]:
        for one in plan.contestants:  # one seed after the other: a process keeps the people of the last ones
            found[Key(one.name, PLAIN, seed)] = _cell(plan, seed, one.tables, round_)
    fit = any(isinstance(cell, Cell) for cell in found.values())
    for seed in [seed for side in sides for seed in side if fit]:
        found[Key("", PLAIN, seed)] = cells.honest(plan.scenario, plan.detectors, seed)
    return found


def _later(plan: Plan) -> dict[Key, Cell | str]:
    """The runs of adaptive deviations, on the seeds reported on."""
    found: dict[Key, Cell | str] = {}
    for one in plan.contestants:
        for seed, round_ in plan.tried_with(plan.seeds)[: -(-plan.repetitions // (2 * EACH))]:
            for how, tables in one.evasions():
                found[Key(one.name, how, seed)] = _cell(plan, seed, tables, round_)
            plain = _cell(plan, seed, one.tables, 1)
            if round_ > 1 and isinstance(plain, Cell) and plain.rounds == (1,):
                found[Key(one.name, FIRST, seed)] = plain
    return found


def _cell(plan: Plan, seed: int, tables: Sequence[Mapping[str, object]], round_: int) -> Cell | str:
    try:
        return cells.crafted(plan.scenario, plan.detectors, seed, tables, round_)
    except RequestError as error:
        return str(error)


def _read(found: Found) -> bool:
    """Whether a run's read-out recovered any record."""
    return found.records is not None and hits(found.records.recovered) > 0


def _shown(waiting: Mapping[Key, None]) -> str:
    """Name of the run that was begun first of those not finished."""
    key = next(iter(waiting), None)
    if key is None:
        return ""
    return " ".join(part for part in (key.deviation or "honest", key.how, f"seed {key.seed}") if part)
