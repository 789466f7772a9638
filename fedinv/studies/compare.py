"""Runs the matrix of a comparison: every stack of defenses with every seed, each under all attacks, over processes.

A cell is a run folder named by its content, kept from one comparison to the next: a second one that adds a defense or
an attack does only what is new.
"""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedinv import __version__
from fedinv.attack import Attack, Progress
from fedinv.errors import RequestError, RunError
from fedinv.results.comparison import NONE, Cells, Comparison
from fedinv.results.run import Results
from fedinv.results.wording import metric_text
from fedinv.runs import run
from fedinv.scenario.scenario import Scenario
from fedinv.studies import recommendation, seed_pooling
from fedinv.studies.defense_sets import Stack
from fedinv.studies.workers import pool


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
    progress: Progress,
    ray_address: str | None = None,
) -> Cells:
    """Run all cells, the undefended ones first; the others are compared with them and do not train them again.

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
    with pool(jobs, len(declared), "comparison", ray_address) as work:
        for seed in seeds:
            one = declared[NONE, seed]
            work.submit((NONE, seed), _cell, one.to_toml(), asked, cell_folder(one, cache), None)
        for (name, seed), outcome in work.finished():
            if name == NONE and not isinstance(outcome, Results):
                raise RunError(f"the scenario without defenses, seed {seed}: {outcome}")
            found[name, seed] = outcome if isinstance(outcome, Results) else str(outcome)
            if name == NONE:
                for stack in stacked:
                    one = declared[stack.name, seed]
                    base = None if stack.knobs else cell_folder(declared[NONE, seed], cache)
                    work.submit((stack.name, seed), _cell, one.to_toml(), asked, cell_folder(one, cache), base)
            progress(len(found) / len(declared))
    return {key: found[key] for key in declared}


def compare(
    scenario: Scenario,
    stacks: Sequence[Stack],
    attacks: Sequence[Attack],
    seeds: int,
    limit: float,
    folder: Path,
    jobs: int | None,
    progress: Progress,
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


def _cell(toml: str, attacks: list[dict[str, Any]], folder: Path, plain: Path | None) -> Results:
    """Run one cell, in a process of its own."""
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    return run.cell(scenario, folder, [run.parse_attack(one) for one in attacks], plain)


def attacks_of(scenario: Scenario, texts: Sequence[str]) -> list[Attack]:
    """Attacks by kind with settings, as `gradient-matching:restarts=4`; the scenario's own settings where it has them.

    Without any: those of the scenario that rebuild records, and row-space where the network is a perceptron. Raises
    RequestError naming the nearest right spelling, and where nothing is left to attack with.
    """
    from fedinv.storage.documents import override

    own = {attack.kind: attack for attack in scenario.attacks}
    if not texts:
        kinds = [attack.kind for attack in scenario.attacks if attack.asks == "records"]
        texts = list(dict.fromkeys([*kinds, *(["row-space"] if scenario.model.kind == "mlp" else [])]))
    found: list[Attack] = []
    for text in dict.fromkeys(texts):
        kind, *settings = text.strip().split(":")
        parameters: dict[str, Any] = {"kind": kind}
        if kind in own:
            parameters = own[kind].model_dump(mode="json", exclude_defaults=True) | {"kind": kind}
        for setting in settings:
            override(parameters, setting)
        if kind == "exact" and any(other.startswith("row-space") for other in texts):
            parameters.setdefault("fall_back", False)  # row-space is run by itself
        found.append(run.parse_attack(parameters))
    if not found:
        raise RequestError("--attacks: the scenario has none that rebuilds records, name some of fedinv list attacks")
    return found
