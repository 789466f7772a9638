"""Runs a scenario with several seeds, each a run of its own, and pools what they give."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedinv.attack import Attack
from fedinv.errors import RunError
from fedinv.report import frames
from fedinv.results.replication import ReplicatedMeasure, Replication, Spread
from fedinv.results.run import AttackResult, InferenceResult, Results
from fedinv.results.wording import metric_text, spread_text
from fedinv.runs import provenance, run
from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import StudyFolder
from fedinv.studies.seed_pooling import difference, label_of, largest_epsilon
from fedinv.studies.workers import Workers, pool

WHOLE = "recovered"
"""Measure of records rebuilt in full, which a replication's sentence names where there is one."""


def replicate(
    scenario: Scenario, seeds: int, folder: Path, workers: Workers, progress: Callable[[float, str], None]
) -> Replication:
    """Run a scenario with its seed and those after it, `seeds` in all, each in a folder seed-N below `folder`.

    A finished run of a seed is not run again, an unfinished one is gone on with. `progress` is called with the share
    that is done and the name of a current run. A seed whose run fails is named in the outcome. Raises RequestError for
    a folder of another scenario, other records or other code, RunError where all seeds fail.
    """
    provenance.begin(folder, provenance.of(scenario))
    declared = {
        seed: scenario.model_copy(update={"seed": seed}) for seed in range(scenario.seed, scenario.seed + seeds)
    }
    place = StudyFolder(folder)
    found: dict[int, Results] = {}
    failed: dict[int, str] = {}
    waiting = dict.fromkeys(declared)
    with pool(workers, seeds, "replication") as work:
        for seed, one in declared.items():
            work.submit(seed, _one, one.to_toml(), place.run(f"seed-{seed}").root)
        progress(0.0, f"seed {scenario.seed}")
        for seed, outcome in work.finished():
            waiting.pop(seed)
            if isinstance(outcome, Results):
                found[seed] = outcome
            else:
                failed[seed] = str(outcome)
            progress(1 - len(waiting) / seeds, f"seed {next(iter(waiting))}" if waiting else "")
    if not found:
        raise RunError(f"no seed succeeded; seed {min(failed)}: {failed[min(failed)]}")
    return pooled(scenario, dict(sorted(found.items())), dict(sorted(failed.items())))


def pooled(scenario: Scenario, found: Mapping[int, Results], failed: Mapping[int, str]) -> Replication:
    """The replication that these results by seed, at least one, make; `failed` has the reasons of the others."""
    ran = list(found.values())
    plain = [None if one.utility.undefended is None else one.utility.undefended.value for one in ran]
    lost = [difference(before, one.utility.value) for before, one in zip(plain, ran, strict=True)]
    metric, utility = metric_text(ran[0].utility), Spread.over([one.utility.value for one in ran])
    measures = _measures(ran, scenario.attacks)
    return Replication(
        scenario=scenario.name,
        seeds=list(found),
        runs=[f"seed-{seed}" for seed in found],
        metric=metric,
        utility=utility,
        undefended=Spread.over(plain),
        lost=Spread.over(lost),
        epsilon=largest_epsilon([one.privacy for one in ran]),
        unit=ran[0].privacy.unit,
        measures=measures,
        failed=dict(failed),
        says=_says(len(found), measures, metric, utility),
    )


def _measures(ran: Sequence[Results], attacks: Sequence[Attack]) -> list[ReplicatedMeasure]:
    """Every measure of every attack, in the order of the first run that has it."""
    by_seed = [_rows(one, attacks) for one in ran]
    found = []
    for key in dict.fromkeys(key for rows in by_seed for key in rows):
        rows = [one.get(key) for one in by_seed]
        value, guess, undefended = (
            Spread.over([None if row is None else row[column] for row in rows])
            for column in ("value", "guess", "undefended")
        )
        if value is None or guess is None:
            continue
        first = next(row for row in rows if row is not None)
        found.append(
            ReplicatedMeasure(
                attack=key[0],
                variant=first["variant"],
                target=first["target"],
                measure=first["measure"],
                share=first["share"],
                value=value,
                guess=guess,
                undefended=undefended,
                count=sum(row["count"] for row in rows if row is not None),
            )
        )
    return found


def _rows(results: Results, attacks: Sequence[Attack]) -> dict[tuple[str, ...], dict[str, Any]]:
    """One run's measures by attack, variant, target and measure."""
    published: list[AttackResult | InferenceResult] = [*results.attacks, *results.inferences]
    return {
        (label_of(one, attacks), one.variant, one.target, str(row["measure"])): row
        for one in published
        for row in frames.rows(one)
    }


def _says(seeds: int, measures: Sequence[ReplicatedMeasure], metric: str, utility: Spread | None) -> str:
    """The strongest rate of whole records, else the first measure, and the model's metric, with deviations."""
    over = f"over {seeds} seeds" if seeds > 1 else "at one seed"
    said = []
    whole = [one for one in measures if one.measure == WHOLE] or list(measures[:1])
    if whole:
        top = max(whole, key=lambda one: one.value.mean)
        what = "of the records are rebuilt in full" if top.measure == WHOLE else top.measure
        said.append(
            f"by {top.attack} ({top.variant}) {spread_text(top.value, top.share)} {what}, by a guess "
            f"{spread_text(top.guess, top.share)}"
        )
    if utility is not None:
        said.append(f"the model's {metric} is {spread_text(utility, False)}")
    return f"{over[0].upper()}{over[1:]}: {'; '.join(said) or 'nothing was measurable'}."


def _one(toml: str, folder: Path) -> Results:
    """Run one seed, or read what it gave; runs in a process of the pool."""
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    return run.anew_or_read(scenario, folder)
