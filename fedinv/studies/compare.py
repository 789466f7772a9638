"""Runs the matrix of a comparison: every stack of defenses with every seed, each under all attacks, over processes.

A cell is a run folder named by its content, kept from one comparison to the next: a second one that adds a defense or
an attack does only what is new.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedinv import plugins
from fedinv.attack import Attack
from fedinv.errors import RequestError, RunError
from fedinv.results.comparison import NONE, Cells, Comparison
from fedinv.results.run import Results
from fedinv.results.wording import metric_text
from fedinv.runs import run
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import plugin
from fedinv.studies import recommendation, seed_pooling
from fedinv.studies.defense_sets import Stack
from fedinv.studies.workers import pool
from fedinv.version import __version__

Named = Callable[[float, str], None]
"""Called with the share of the work that is done, 0 to 1, and the name of what is under way."""


def seeds_of(scenario: Scenario, count: int) -> list[int]:
    """The scenario's seed and those after it."""
    return [scenario.seed + i for i in range(count)]


def cell_folder(scenario: Scenario, cache: Path) -> Path:
    """Where a cell's run is kept: named by its content, whatever the scenario is called and is attacked by."""
    content = scenario.model_dump(mode="json", exclude={"name", "attacks"})
    text = json.dumps([__version__, content], sort_keys=True)
    return cache / sha256(text.encode()).hexdigest()[:16]


def matrix(
    scenario: Scenario,
    stacks: Sequence[Stack],
    attacks: Sequence[Attack],
    seeds: Sequence[int],
    cache: Path,
    jobs: int | None,
    progress: Named,
    ray_address: str | None = None,
) -> Cells:
    """Run all cells, the undefended ones first; the others are compared with them and do not train them again.

    `progress` is called with the share that is done and the name of the cell that has been under way longest.

    A cell that fails is told of, and the others go on. Raises RequestError, before anything runs, for a stack that
    the scenario cannot have, and RunError when a scenario does not even run without defenses.
    """
    plain, stacked = Stack(NONE), [stack for stack in stacks if stack.name != NONE]
    declared = {
        (stack.name, seed): stack.on(scenario).model_copy(update={"seed": seed})
        for stack in (plain, *stacked)
        for seed in seeds
    }
    asked = [attack.model_dump(mode="json", exclude_none=True) for attack in attacks]
    found: Cells = {}
    waiting: dict[tuple[str, int], None] = {}  # in the order in which they are begun
    with pool(jobs, len(declared), "comparison", ray_address) as work:
        for seed in seeds:
            one = declared[NONE, seed]
            work.submit((NONE, seed), _cell, one.to_toml(), asked, cell_folder(one, cache), None)
            waiting[NONE, seed] = None
        progress(0.0, _named(waiting, seeds))
        for (name, seed), outcome in work.finished():
            if name == NONE and not isinstance(outcome, Results):
                raise RunError(f"the scenario without defenses, seed {seed}: {outcome}")
            found[name, seed] = outcome if isinstance(outcome, Results) else str(outcome)
            if name == NONE:
                for stack in stacked:
                    one = declared[stack.name, seed]
                    base = None if stack.knobs else cell_folder(declared[NONE, seed], cache)
                    work.submit((stack.name, seed), _cell, one.to_toml(), asked, cell_folder(one, cache), base)
                    waiting[stack.name, seed] = None
            waiting.pop((name, seed))
            progress(len(found) / len(declared), _named(waiting, seeds))
    return {key: found[key] for key in declared}


def compare(
    scenario: Scenario,
    stacks: Sequence[Stack],
    attacks: Sequence[Attack],
    seeds: int,
    limit: float,
    folder: Path,
    jobs: int | None,
    progress: Named,
    ray_address: str | None = None,
) -> Comparison:
    """Run the matrix and say what it shows; cells are kept in `.cells` beside the comparison's folder.

    With the address of a Ray cluster they run there: all its machines must share that folder, and have fedinv.
    """
    repeated, cache = seeds_of(scenario, seeds), folder.absolute().parent / ".cells"
    cells = matrix(scenario, stacks, attacks, repeated, cache, jobs, progress, ray_address)
    where = {
        (stack.name, seed): os.path.relpath(
            cell_folder(stack.on(scenario).model_copy(update={"seed": seed}), cache), folder
        )
        for stack in (Stack(NONE), *stacks)
        for seed in repeated
    }
    found = seed_pooling.rows(cells, where, attacks)
    metric = metric_text(next(one for one in cells.values() if isinstance(one, Results)).utility)
    there = {row.defenses for row in found}
    return Comparison(
        scenario=scenario.name,
        seeds=repeated,
        metric=metric,
        attacks=seed_pooling.labels(attacks),
        rows=found,
        failed={name: str(one) for (name, _), one in cells.items() if name not in there},
        dominated=recommendation.dominated(found),
        limit=limit,
        recommendation=recommendation.recommendation(found, limit, metric),
    )


def _named(waiting: Iterable[tuple[str, int]], seeds: Sequence[int]) -> str:
    """The cell that was begun first of those that wait, by its defenses and, where there are several, its seed."""
    name, seed = next(iter(waiting), ("", 0))
    return f"{name}, seed {seed}" if name and len(seeds) > 1 else name


def _cell(toml: str, attacks: list[dict[str, Any]], folder: Path, plain: Path | None) -> Results:
    """Run one cell, in a process of its own."""
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    return run.cell(scenario, folder, [run.parse_attack(one) for one in attacks], plain)


def attacks_of(scenario: Scenario, texts: Sequence[str]) -> list[Attack]:
    """Attacks by kind with settings, as `gradient-matching:restarts=4`; the scenario's own settings where it has them.

    Without any: those of the scenario that rebuild records, and those that every comparison runs on such a model.
    Raises RequestError naming the nearest right spelling, and where nothing is left to attack with.
    """
    own = {a.kind: a.model_dump(mode="json", exclude_defaults=True) for a in scenario.attacks}
    if not texts:
        kinds = [attack.kind for attack in scenario.attacks if attack.asks == "records"]
        every = [k for k, a in plugins.loaded("attacks").items() if a.compared and a.suits(scenario.model)]
        texts = list(dict.fromkeys([*kinds, *every]))
    found: list[Attack] = []
    for text in dict.fromkeys(texts):
        found.append(run.parse_attack(plugin("attacks", text, own)))
    if not found:
        raise RequestError("attacks: the scenario has none that rebuilds records, name some of fedinv list attacks")
    kinds = [attack.kind for attack in found]
    return [attack.beside(kinds) for attack in found]
