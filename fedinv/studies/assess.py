"""Assesses how vulnerable a federation is, and why: varies a scenario one thing at a time and attacks each variation.

It varies the model's complexity, the training, the data, the attacker's strength, and adds a defense.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedinv.attack import Attack, Progress
from fedinv.errors import RequestError, RunError
from fedinv.federation.strategies import FEDAVG
from fedinv.judge.truth import population_of
from fedinv.results.assessment import Axis, VariationLeak, change
from fedinv.results.intervals import clopper_pearson
from fedinv.results.ranking import worst_case, worst_fields
from fedinv.results.run import AttackResult, InferenceResult, Privacy, Rate, Results
from fedinv.results.wording import epsilon_text, hits, unit_text
from fedinv.runs import provenance
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import RunFolder
from fedinv.studies.defense_sets import trials
from fedinv.studies.workers import Workers, pool


@dataclass(frozen=True)
class Variation:
    """A scenario in which one thing is changed."""

    axis: Axis
    """What is varied: the model, the training, the data, the attacker, or the defense."""
    change: str
    """The change in words, such as "layers a quarter as wide"."""
    changes: Mapping[str, Any]
    """New values of the scenario's document by dotted key."""
    complexity: int = 0
    """1 where the model is more complex or trained longer, -1 where less so, else 0."""


def variations(scenario: Scenario) -> Iterator[Variation]:
    """The scenario as it is, then one change at a time; changes that do not apply to it are left out."""
    model, training, watch = scenario.model, scenario.training, scenario.attacker.watch
    yield Variation("as it is", "the scenario as it is", {})
    hidden = list(model.widths)
    if hidden:
        yield Variation("model", "layers a quarter as wide", {"model.hidden": [max(2, h // 4) for h in hidden]}, -1)
        yield Variation("model", "layers twice as wide", {"model.hidden": [2 * h for h in hidden]}, 1)
        if len(hidden) > 1:
            yield Variation("model", "one layer less", {"model.hidden": hidden[:-1]}, -1)
        yield Variation("model", "one layer more", {"model.hidden": [*hidden, hidden[-1]]}, 1)
    if training.algorithm == "fedavg" and training.epochs > 1:
        yield Variation("training", "a single local epoch", {"training.epochs": 1}, -1)
    if training.algorithm == "fedavg":
        yield Variation("training", "three times the epochs", {"training.epochs": 3 * training.epochs}, 1)
    held = training.records_per_client
    if training.algorithm == "fedavg" and held is not None:
        yield Variation("data", "four times the records a client", {"training.records_per_client": 4 * held})
    if training.algorithm == "fedsgd":
        size = 4 * training.batch_size
        more = {} if held is None else {"training.records_per_client": max(held, size)}
        yield Variation("data", "four times the records in a batch", {"training.batch_size": size, **more})
    knows = list(scenario.attacker.knows)
    for withheld, named in (
        (("schema",), "the data dictionary is withheld"),
        (("lr", "batch-size", "epochs"), "the training's settings are withheld"),
    ):
        if set(withheld) & set(knows):
            left = [known for known in knows if known not in withheld]
            yield Variation("attacker", named, {"attacker.knows": left})
    last = scenario.federation.rounds
    if last not in watch.rounds:
        yield Variation("attacker", "it looks at the last round", {"attacker.watch.rounds": [last]})
    if len(watch.rounds) == 1 and last > 1:
        rounds = sorted({watch.rounds[0], max(1, last // 2), last})
        yield Variation("attacker", f"it looks at {len(rounds)} rounds", {"attacker.watch.rounds": rounds})
    if not scenario.defenses:
        for kind, defense, trial in trials():
            alone = defense.secure_aggregation and scenario.federation.participants < 2
            moved = defense.averaged_only is not None and scenario.federation.strategy != FEDAVG
            if trial.words is not None and not alone and not moved:
                yield Variation("defense", trial.words, {"defenses": [{"kind": kind, **trial.settings}]})


def varied(scenario: Scenario, variation: Variation, attacks: Sequence[Attack]) -> Scenario:
    """The scenario with a variation's change, under these attacks. Raises RequestError where it is not valid."""
    document = scenario.model_dump(mode="json", exclude_none=True)
    for key, value in variation.changes.items():
        *tables, name = key.split(".")
        table = document
        for part in tables:
            table = table[part]
        table[name] = value
    document["attacks"] = _attacks(scenario, attacks, variation.axis == "as it is")
    return parse(document, variation.change)


def assess(
    scenario: Scenario, folder: Path, jobs: int | None, progress: Progress, attacks: Sequence[Attack]
) -> list[VariationLeak]:
    """Run every variation in a folder of its own, on up to `jobs` processes; finished ones are read, not run again.

    Returns their leaks, the scenario as it is first; another variation that fails is left out. Raises RequestError or
    RunError where the scenario as it is cannot be used or fails, RequestError where the folder holds an assessment of
    another scenario, of other records or by other code.
    """
    provenance.begin(folder, provenance.of(scenario))
    tasks = []
    for number, variation in enumerate(variations(scenario)):
        try:
            tasks.append((number, variation, varied(scenario, variation, attacks)))
        except RequestError:
            if number == 0:
                raise
    # those that watch most rounds take longest: begun last, they would leave all other processes idle
    tasks[1:] = sorted(tasks[1:], key=lambda task: -len(task[2].attacker.watch.rounds))
    found: dict[int, VariationLeak] = {}
    plain = folder / "00"
    with pool(Workers(jobs), len(tasks), "assessment") as work:

        def begin(defended: bool) -> None:
            for number, variation, changed in tasks:
                if (variation.axis == "defense") == defended:
                    beside = plain if defended else None
                    work.submit(number, _leak, changed.to_toml(), variation, folder / f"{number:02}", beside)

        begin(False)
        for number, leak in work.finished():
            if isinstance(leak, VariationLeak):
                found[number] = leak
                if number == 0:
                    begin(True)  # beside the scenario as it is, which is not run again for them
            elif number == 0:
                raise RunError(f"the scenario as it is: {leak}")
            progress(len(found) / len(tasks))
    progress(1.0)
    return [found[number] for number in sorted(found)]


def _attacks(scenario: Scenario, attacks: Sequence[Attack], every: bool) -> list[dict[str, Any]]:
    """Parameters of the attacks; one on an attribute is run for the first sensitive column, or with `every` for each.

    On images none is asked for a column.
    """
    found: list[dict[str, Any]] = []
    for attack in attacks:
        document = attack.model_dump(mode="json", exclude_none=True)
        if attack.asks != "attribute" or "column" in document:
            found.append(document)
        elif not scenario.data.images:
            columns = population_of(scenario).table.schema.columns
            sensitive = [c.name for c in columns if c.sensitive] or [columns[0].name]
            found += [{**document, "column": name} for name in (sensitive if every else sensitive[:1])]
    return found


def _leak(toml: str, variation: Variation, folder: Path, plain: Path | None) -> VariationLeak:
    """Run one variation in its folder, or read it where it is finished; runs in a process of the pool.

    `plain` is the folder of the same scenario without the variation's defenses, None where it adds none.
    """
    from fedinv.runs import run
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    results = run.anew_or_read(scenario, folder, plain)
    told = [one for one in results.inferences if one.answered and one.measures and one.measures[0].count]
    told.sort(key=_above)  # the dictionary keeps the worst of several variants
    columns = {str(one.parameters["column"]): _rate(one) for one in told if one.asks == "attribute"}
    members = [_rate(one) for one in told if one.asks == "membership"]
    asked = [str(attack.column) for attack in scenario.attacks if attack.asks == "attribute"]  # type: ignore[attr-defined]
    columns = {name: columns[name] for name in asked if name in columns}
    return VariationLeak(
        axis=variation.axis,
        change=variation.change,
        complexity=variation.complexity,
        run=folder.name,
        records=_records(results.attacks),
        by=_strongest(results.attacks),
        unfinished=_unfinished(results.attacks),
        fields=worst_fields(results.attacks).field_accuracy if results.attacks else None,
        attribute=next(iter(columns.values()), None),
        columns=columns,
        membership=members[-1] if members else None,
        guarantee=_guarantee(results.privacy),
        utility=results.utility,
        gap=_gap(scenario, folder, results),
    )


def _records(attacks: Sequence[AttackResult]) -> Rate | None:
    """Share recovered by the strongest attack, its interval that of the maximum over all of them (Bonferroni)."""
    if not attacks:
        return None
    rate = worst_case(attacks).recovered
    level = 1 - 0.05 / len(attacks)
    return rate.model_copy(update={"ci95": clopper_pearson(hits(rate), rate.count, level)}) if rate.count else rate


def _strongest(attacks: Sequence[AttackResult]) -> str | None:
    """Name and variant of the strongest attack; None where none claimed anything."""
    worst = worst_case(attacks) if attacks else None
    return f"{worst.kind}, {worst.variant}" if worst is not None and worst.claimed else None


def _unfinished(attacks: Sequence[AttackResult]) -> dict[str, list[str]]:
    """Limits that ended attacks before they were done, each once, by kind."""
    found: dict[str, dict[str, None]] = {}
    for one in attacks:
        if one.unfinished:
            found.setdefault(one.kind, {}).update(dict.fromkeys(one.unfinished))
    return {kind: list(limits) for kind, limits in found.items()}


def _guarantee(spent: Privacy) -> str | None:
    if spent.epsilon is None or not spent.against_server:
        return None
    return f"guaranteed is epsilon {epsilon_text(spent.epsilon)} per {unit_text(spent)}"


def _above(told: InferenceResult) -> float:
    first = told.measures[0]
    return (first.value or 0.0) - (first.prior or 0.0)


def _rate(told: InferenceResult) -> Rate:
    first = told.measures[0]
    return Rate(value=first.value, count=first.count, ci95=first.ci95, prior=first.prior)


def _gap(scenario: Scenario, folder: Path, results: Results) -> float | None:
    import numpy as np

    from fedinv.federation.streams import stream
    from fedinv.judge.utility import auc, r2
    from fedinv.runs.context import TrainedRun

    people = population_of(scenario)
    held = np.concatenate(people.shares)
    measured = auc if results.utility.metric == "auc" else r2
    network = TrainedRun(scenario, RunFolder(folder)).network()
    found = measured(network, people.inputs[held], people.labels[held], stream(scenario.seed, "gap"), 1)
    return None if found is None or results.utility.value is None else found[0] - results.utility.value


def _told(leak: VariationLeak) -> float:
    """How far the share of right fields exceeds a guess, at least 0."""
    known = leak.fields.numbers if leak.fields is not None else None
    return 0.0 if known is None else max(0.0, known[0] - known[2])


def most_helpful(leaks: Sequence[VariationLeak]) -> VariationLeak | None:
    """The single change that lowers the share of records recovered most, measurably; None where there is none.

    Among equals the one that leaves fewest fields above a guess, then one that all attacks tried to their end which did
    so as it is, then the better model. What the attacker knows and watches is no change that a federation can make, and
    of one whose model cannot be measured it is not known what it costs.
    """
    base = leaks[0].records
    if base is None:
        return None
    made = [one for one in leaks[1:] if one.axis != "attacker" and one.utility.value is not None]
    found = [(one, change(base, one.records)) for one in made]
    helped = [(one, apart) for one, apart in found if apart is not None and apart[1][1] < 0]
    best = min(
        helped,
        key=lambda pair: (
            pair[1][0],
            _told(pair[0]),
            bool(pair[0].newly_unfinished(leaks[0])),
            -(pair[0].utility.value or 0.0),
        ),
        default=None,
    )
    return None if best is None else best[0]
