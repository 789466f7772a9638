"""Runs a duel: honest trainings, each deviation against all detectors, then what adaptive deviations change.

Thresholds, the choice of the best combination, and the settings by which a deviation evades it, come from other seeds
than all that is reported.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedinv.detector import Detector
from fedinv.errors import RequestError, RunError
from fedinv.results.duel import Duel
from fedinv.results.wording import hits
from fedinv.runs import provenance
from fedinv.scenario.scenario import Scenario
from fedinv.studies.duel import cells, conclusion
from fedinv.studies.duel.cells import Cell, Found
from fedinv.studies.duel.contestants import Contestant
from fedinv.studies.duel.detection import Panel
from fedinv.studies.duel.search import STEPS, Search
from fedinv.studies.workers import Workers, pool

Named = Callable[[float, str], None]
"""Function that is called with the share of the work that is done, 0 to 1, and the name of the current work."""
EACH = 5
"""Honest trainings for each one in which a deviation is tried: false alarms are rarer than what is flagged. To choose
the combination, and to evade, it is tried in half as many."""
FIRST = "round 1"
"""Name of the evasion that deviates before clients have anything to compare with."""
SEARCHED = "(searched)"
"""Word behind the name of an evasion whose setting was searched for."""
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

    @property
    def evading_with(self) -> list[int]:
        """Those of the seeds reported on with which adaptive deviations are tried."""
        return self.seeds[: -(-self.repetitions // (2 * EACH))]


def duel(plan: Plan, folder: Path, workers: Workers, progress: Named) -> Duel:
    """Run all cells, which are kept in `.cells` beside the duel's folder, and draw the conclusions.

    `progress` is called with the share that is done and the name of the run that has been going longest. Raises
    RunError when the scenario fails with an honest server.
    """
    cache = folder.absolute().parent / ".cells"
    first, later = _first(plan), _later(plan) if plan.adaptive else {}
    dials = sum(len(one.dials()) for one in plan.contestants) if plan.adaptive else 0
    total = len(first) + len(later) + dials * (STEPS + len(plan.evading_with))
    attacks = [attack for cell in first.values() if isinstance(cell, Cell) for attack in cell.scenario.attacks]
    with pool(workers, max(1, total), "duel") as work:
        runs = _Runs(
            work, partial(Cell.folder, cache=cache, made=provenance.of(plan.scenario, attacks)), progress, total
        )
        _as_they_are(plan, runs, first, later)
        panels = conclusion.panels(plan, runs.found)
        if plan.adaptive and panels[0] is not None:
            _search(plan, runs, panels[0])
    progress(1.0, "")
    provenance.write(folder, provenance.of(plan.scenario))
    return conclusion.concluded(plan, runs.found, runs.refused, panels)


@dataclass
class _Runs:
    """The runs of a duel under way."""

    work: Any
    """Pool of processes, or a cluster."""
    place: Callable[[Cell], Path]
    """Function that returns a cell's folder."""
    progress: Named
    total: int
    """Number of runs, those that may yet turn out to be needless among them."""
    found: dict[Key, Found] = field(default_factory=dict)
    """What each run found."""
    refused: dict[Key, str] = field(default_factory=dict)
    """Why those that did not run did not."""
    waiting: dict[Key, None] = field(default_factory=dict)
    """Runs that have not finished, in order."""
    done: int = 0
    """Number of runs that have finished, or cannot be had."""

    def submit(self, key: Key, cell: Cell | str) -> None:
        """Queue a run; a reason in place of one is kept."""
        if isinstance(cell, str):
            self.refused[key] = cell
            self.done += 1
            return
        self.work.submit(key, cells.run_cell, cell.scenario.to_toml(), cell.rounds, self.place(cell), cell.unless)
        self.waiting[key] = None

    def finished(self) -> Iterator[tuple[Key, Found | str]]:
        """Yield each run's key and what it found, or why it failed, as runs finish; more may be queued meanwhile."""
        self.progress(min(1.0, self.done / max(1, self.total)), _shown(self.waiting))
        for key, outcome in self.work.finished():
            self.waiting.pop(key)
            self.done += 1
            yield key, outcome if isinstance(outcome, Found) else str(outcome)
            self.progress(min(1.0, self.done / max(1, self.total)), _shown(self.waiting))

    def keep(self, key: Key, outcome: Found | str) -> None:
        """Keep what a run came to."""
        if isinstance(outcome, Found):
            self.found[key] = outcome
        else:
            self.refused[key] = outcome


def _as_they_are(plan: Plan, runs: _Runs, first: Mapping[Key, Cell | str], later: Mapping[Key, Cell | str]) -> None:
    """Run honest trainings and deviations as they are, and those whose evasions are listed with them.

    Raises RunError when the scenario fails with an honest server.
    """
    for key, cell in first.items():
        runs.submit(key, cell)
    open_ = {one.name: {key for key in runs.waiting if key.deviation == one.name} for one in plan.contestants}
    needless = {one.name for one in plan.contestants}
    for key, outcome in runs.finished():
        if isinstance(outcome, str) and not key.deviation:
            raise RunError(f"the scenario with an honest server, seed {key.seed}: {outcome}")
        runs.keep(key, outcome)
        mine = open_.get(key.deviation, set())
        mine.discard(key)
        if key in first and key.deviation and not mine and _reads(runs, key.deviation):
            needless.discard(key.deviation)
            for other, cell in later.items():
                if other.deviation == key.deviation:
                    runs.submit(other, cell)
    runs.total -= sum(key.deviation in needless for key in later)


def _search(plan: Plan, runs: _Runs, panel: Panel) -> None:
    """Run what a server that knows the thresholds finds for each dial of the deviations that read records."""
    open_: dict[Key, Search] = {}
    seed = plan.tried_with(plan.threshold_seeds)[0][0]

    def next_(search: Search) -> None:
        how, tables = search.contestant.turned(search.dial, search.value)
        for where in plan.evading_with if search.done else (seed,):
            cell = _cell(plan, where, tables, 1)  # in round 1 there is least to compare with
            if isinstance(cell, Cell):
                name = f"{how}, {FIRST}" if cell.rounds == (1,) and plan.scenario.federation.rounds > 1 else how
                key = Key(search.contestant.name, f"{name} {SEARCHED}", where)
                open_[key] = search
                runs.submit(key, cell if search.done else replace(cell, unless=panel))

    for one in plan.contestants:
        if _reads(runs, one.name):
            for dial in one.dials():
                next_(Search(one, dial))
        else:
            runs.total -= len(one.dials()) * (STEPS + len(plan.evading_with))
    for key, outcome in runs.finished():
        search = open_.pop(key)
        if search.done:
            runs.keep(key, outcome)
        else:
            next_(search.after(outcome if isinstance(outcome, Found) else None, panel))


def _first(plan: Plan) -> dict[Key, Cell | str]:
    """The honest runs and those of deviations that evade nothing; a reason in place of a run that cannot be had.

    With the seeds that set thresholds, deviations of one round are carried out in round 1 as well: clients that have
    nothing to compare with then need other detectors, which the combination must have too.
    """
    found: dict[Key, Cell | str] = {}
    sides = (plan.seeds, plan.threshold_seeds)
    for seed, round_ in [tried for side in sides for tried in plan.tried_with(side)]:
        for one in plan.contestants:  # one seed after the other: a process keeps the people of the last ones
            found[Key(one.name, PLAIN, seed)] = _cell(plan, seed, one.tables, round_)
            if seed in plan.threshold_seeds:
                found |= _early(plan, one, seed, round_)
    fit = any(isinstance(cell, Cell) for cell in found.values())
    for seed in [seed for side in sides for seed in side if fit]:
        found[Key("", PLAIN, seed)] = cells.honest(plan.scenario, plan.detectors, seed)
    return found


def _later(plan: Plan) -> dict[Key, Cell | str]:
    """The runs of adaptive deviations, on the seeds reported on."""
    found: dict[Key, Cell | str] = {}
    for one in plan.contestants:
        for seed, round_ in plan.tried_with(plan.seeds)[: len(plan.evading_with)]:
            for how, tables in one.evasions():
                found[Key(one.name, how, seed)] = _cell(plan, seed, tables, round_)
            found |= _early(plan, one, seed, round_)
    return found


def _early(plan: Plan, one: Contestant, seed: int, round_: int) -> dict[Key, Cell | str]:
    """The run of a deviation in round 1, where it takes one round and was tried in a later one; else nothing."""
    cell = _cell(plan, seed, one.tables, 1)
    if round_ > 1 and isinstance(cell, Cell) and cell.rounds == (1,):
        return {Key(one.name, FIRST, seed): cell}
    return {}


def _cell(plan: Plan, seed: int, tables: Sequence[Mapping[str, object]], round_: int) -> Cell | str:
    try:
        return cells.crafted(plan.scenario, plan.detectors, seed, tables, round_)
    except RequestError as error:
        return str(error)


def _reads(runs: _Runs, deviation: str) -> bool:
    """Whether the read-out of a deviation as it is recovered any record."""
    mine = [one.records for key, one in runs.found.items() if key.deviation == deviation]
    return any(one is not None and hits(one.recovered) > 0 for one in mine)


def _shown(waiting: Mapping[Key, None]) -> str:
    """Name of the run that was begun first of those not finished."""
    key = next(iter(waiting), None)
    if key is None:
        return ""
    return " ".join(part for part in (key.deviation or "honest", key.how, f"seed {key.seed}") if part)
