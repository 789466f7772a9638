"""Runs the matrix of a comparison: every stack of defenses with every seed, each under all attacks, over processes.

A cell is a run folder named by a hash of its scenario, its records and the code, kept from one comparison to the next:
a second one that adds a defense or an attack runs only what is new.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedinv import roles
from fedinv.attack import Attack
from fedinv.errors import RequestError, RunError
from fedinv.results.comparison import NONE, Cells, Comparison, Row, Swept
from fedinv.results.run import Results
from fedinv.results.wording import metric_text
from fedinv.runs import provenance, run
from fedinv.runs.price import payable
from fedinv.runs.provenance import Provenance
from fedinv.scenario.scenario import Scenario
from fedinv.storage.lock import locked
from fedinv.studies import recommendation, seed_pooling
from fedinv.studies.defense_sets import Stack
from fedinv.studies.workers import Workers, pool

Named = Callable[[float, str], None]
"""Function that is called with the share of the work that is done, 0 to 1, and the name of the current work."""


@dataclass(frozen=True)
class Plan:
    """The runs of a comparison: every stack of defenses with every seed, each under all attacks."""

    scenario: Scenario
    """Scenario whose defenses and attacks are replaced."""
    stacks: Sequence[Stack]
    """Stacks of defenses to compare; the scenario without defenses is always run beside them."""
    attacks: Sequence[Attack]
    not_tried: Mapping[str, str] = field(default_factory=dict)
    """Reason by kind for each attack that is not run."""
    repetitions: int = 1
    """Number of seeds that each stack is run with: the scenario's and those after it."""

    swept: Sequence[Swept] = ()
    """Values of the swept keys in each of the stacks that a sweep made."""

    @property
    def seeds(self) -> list[int]:
        """The seeds that each stack is run with."""
        return [self.scenario.seed + i for i in range(self.repetitions)]

    @property
    def cells(self) -> dict[tuple[str, int], Scenario]:
        """The scenario of each cell by its stack's name and its seed, those without defenses first.

        Raises RequestError for a stack that the scenario cannot have.
        """
        stacked = [stack.on(self.scenario) for stack in self._rows]
        return {
            (stack.name, seed): one.model_copy(update={"seed": seed})
            for stack, one in zip(self._rows, stacked, strict=True)
            for seed in self.seeds
        }

    @property
    def made(self) -> Provenance:
        """What the comparison is made from."""
        return provenance.of(self.scenario, self.attacks)

    def folders(self, cache: Path) -> dict[tuple[str, int], Path]:
        """The folder of each cell's run below `cache`, by its stack's name and its seed."""
        made = self.made
        return {key: cell_folder(one, cache, made) for key, one in self.cells.items()}

    @property
    def _rows(self) -> list[Stack]:
        return [Stack(NONE), *(stack for stack in self.stacks if stack.name != NONE)]


def cell_folder(scenario: Scenario, cache: Path, made: Provenance) -> Path:
    """The folder of a cell's run, named by a hash of the scenario without name and attacks, the records and all code.

    `made` is what the comparison is made from: records that come from a file are the same for every seed.
    """
    content = scenario.model_dump(mode="json", exclude={"name", "attacks"})
    text = json.dumps([made.version, made.records, made.code, made.attacks, content], sort_keys=True)
    return cache / sha256(text.encode()).hexdigest()[:16]


def matrix(plan: Plan, cache: Path, workers: Workers, progress: Named) -> Cells:
    """Run all cells, the undefended ones first; the others reuse them as their own undefended runs.

    `progress` is called with the share that is done and the name of the cell that has been running longest. Returns
    each cell's results, or the reason why it failed, by stack and seed. Raises RequestError, before anything runs, for
    a stack that the scenario cannot have or whose budget pays no round, and RunError when the scenario fails without
    defenses.
    """
    declared, seeds = plan.cells, plan.seeds
    folders = plan.folders(cache)
    for (name, _), one in declared.items():
        try:
            payable(one)
        except RequestError as error:
            raise RequestError(f"{name}: {error}") from None
    stacked = {stack.name: stack for stack in plan.stacks if stack.name != NONE}
    asked = [attack.model_dump(mode="json", exclude_none=True) for attack in plan.attacks]
    found = _finished(plan, folders)
    waiting: dict[tuple[str, int], None] = {}  # in the order in which they are begun
    with pool(workers, len(declared), "comparison") as work:

        def begin(name: str, seed: int) -> None:
            if (name, seed) not in found:
                base = None if name == NONE or stacked[name].knobs else folders[NONE, seed]
                one = declared[name, seed].to_toml()
                work.submit((name, seed), _cell, one, asked, folders[name, seed], base)
                waiting[name, seed] = None

        for seed in seeds:
            for name in stacked if (NONE, seed) in found else (NONE,):
                begin(name, seed)
        progress(len(found) / len(declared), _named(waiting, seeds, len(found), len(declared)))
        for (name, seed), outcome in work.finished():
            if name == NONE and not isinstance(outcome, Results):
                raise RunError(f"the scenario without defenses, seed {seed}: {outcome}")
            found[name, seed] = outcome if isinstance(outcome, Results) else str(outcome)
            if name == NONE:
                for other in stacked:
                    begin(other, seed)
            waiting.pop((name, seed))
            progress(len(found) / len(declared), _named(waiting, seeds, len(found), len(declared)))
    return {key: found[key] for key in declared}


def compare(plan: Plan, limit: float, folder: Path, workers: Workers, progress: Named) -> Comparison:
    """Run the matrix and draw the conclusions; cells are kept in `.cells` beside the comparison's folder.

    `limit` is the loss of the model's metric, 0 to 1, that a recommended stack may cost. The machines of a Ray cluster
    must all share the folder and have fedinv installed.
    """
    cache = folder.absolute().parent / ".cells"
    cells = matrix(plan, cache, workers, progress)
    where = {key: os.path.relpath(place, folder) for key, place in plan.folders(cache).items()}
    provenance.write(folder, plan.made)
    stacked = {name: one for (name, _), one in plan.cells.items()}
    found = [
        row.model_copy(update={"not_adapted": not_adapted(row, stacked[row.defenses], plan.attacks)})
        for row in seed_pooling.rows(cells, where, plan.attacks)
    ]
    metric = metric_text(next(one for one in cells.values() if isinstance(one, Results)).utility)
    there = {row.defenses for row in found}
    return Comparison(
        scenario=plan.scenario.name,
        seeds=plan.seeds,
        metric=metric,
        attacks=seed_pooling.labels(plan.attacks),
        not_tried=dict(plan.not_tried),
        rows=found,
        failed={name: str(one) for (name, _), one in cells.items() if name not in there},
        dominated=recommendation.dominated(found),
        limit=limit,
        swept=[one for one in plan.swept if one.defenses in there],
        recommendation=recommendation.recommendation(found, limit, metric, plan.not_tried),
    )


def _named(waiting: Iterable[tuple[str, int]], seeds: Sequence[int], done: int, of: int) -> str:
    """Count of the finished cells, and the one that began first of the others, with its seed if there are several."""
    name, seed = next(iter(waiting), ("", 0))
    now = f"; {name}, seed {seed}" if len(seeds) > 1 else f"; {name}"
    return f"{done} of {of} done" + (now if name else "")


def _finished(plan: Plan, folders: Mapping[tuple[str, int], Path]) -> Cells:
    """The cells that a former comparison left finished, for which no process is started."""
    found: Cells = {}
    for key, one in plan.cells.items():
        with suppress(RunError):  # a damaged file: the cell says so where it runs
            results = run.finished_cell(one, folders[key], plan.attacks)
            if results is not None:
                found[key] = results
    return found


def _cell(toml: str, attacks: list[dict[str, Any]], folder: Path, plain: Path | None) -> Results:
    """Run one cell; runs in a process of the pool."""
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    with locked(folder, wait=True):  # another comparison beside this one may be at the same cell
        return run.cell(scenario, folder, [run.parse_attack(one) for one in attacks], plain)


def not_adapted(row: Row, scenario: Scenario, attacks: Sequence[Attack]) -> dict[str, str]:
    """Why an attack was not run as one who knows the row's defenses, by its name; empty for the row without any."""
    if not scenario.defenses:
        return {}
    kinds = [defense.kind for defense in scenario.defenses]
    ran = {leak.attack for leak in row.leaks if leak.variant == "adaptive"}
    told = roles.load("server", "countermeasures").nothing_to_adapt_to
    reasons = [told(kind) for kind in kinds]
    why = f"it has no countermeasure to {' and '.join(kinds)}"
    if "defenses" not in scenario.attacker.knows:
        why = "the scenario withholds the defenses from the attacker"
    elif all(reasons):
        why = "; ".join(reasons)
    names = zip(seed_pooling.labels(attacks), attacks, strict=True)
    return {name: why for name, _ in names if name not in ran}
