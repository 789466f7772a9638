"""Assesses how vulnerable a federation is, and why: varies a scenario one thing at a time and attacks each variation.

It varies the model's complexity, the training, the data, the attacker's strength, and adds a defense.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from fedinv import plugins
from fedinv.attack import Asks, Progress
from fedinv.errors import RequestError, RunError
from fedinv.judge.truth import population_of
from fedinv.results.assessment import Axis, VariationLeak, change
from fedinv.results.ranking import worst_case
from fedinv.results.run import InferenceResult, Rate, Results
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
            if trial.words is not None and not alone:
                yield Variation("defense", trial.words, {"defenses": [{"kind": kind, **trial.settings}]})


def varied(scenario: Scenario, variation: Variation) -> Scenario:
    """The scenario with a variation's change, under the quick attacks. Raises RequestError where it is not valid."""
    document = scenario.model_dump(mode="json", exclude_none=True)
    for key, value in variation.changes.items():
        *tables, name = key.split(".")
        table = document
        for part in tables:
            table = table[part]
        table[name] = value
    document["attacks"] = _attacks(scenario, variation.axis == "as it is")
    return parse(document, variation.change)


def assess(scenario: Scenario, folder: Path, jobs: int | None, progress: Progress) -> list[VariationLeak]:
    """Run every variation in a folder of its own, on up to `jobs` processes; finished ones are read, not run again.

    Returns their leaks, the scenario as it is first; another variation that fails is left out. Raises RequestError or
    RunError where the scenario as it is cannot be used or fails, RequestError where the folder holds an assessment of
    another scenario, of other records or by other code.
    """
    provenance.begin(folder, provenance.of(scenario))
    tasks = []
    for number, variation in enumerate(variations(scenario)):
        try:
            tasks.append((number, variation, varied(scenario, variation)))
        except RequestError:
            if number == 0:
                raise
    found: dict[int, VariationLeak] = {}
    with pool(Workers(jobs), len(tasks), "assessment") as work:
        for number, variation, changed in tasks:
            work.submit(number, _leak, changed.to_toml(), variation, folder / f"{number:02}")
        for number, leak in work.finished():
            if isinstance(leak, VariationLeak):
                found[number] = leak
            elif number == 0:
                raise RunError(f"the scenario as it is: {leak}")
            progress(len(found) / len(tasks))
    progress(1.0)
    return [found[number] for number in sorted(found)]


def _attacks(scenario: Scenario, every: bool) -> list[dict[str, Any]]:
    """Parameters of the quick attacks: on records first, the scenario's own where none of them suits the model.

    An attack on an attribute is run on tables only, for the first sensitive column, or with `every` for each of them.
    """
    own = [a.model_dump(mode="json", exclude_none=True) for a in scenario.attacks if a.asks == "records"]
    found: dict[Asks, list[dict[str, Any]]] = {asks: [] for asks in get_args(Asks)}
    for kind, attack in plugins.loaded("attacks").items():
        if attack.assessed_with is None or not attack.suits(scenario.model):
            continue
        document = {"kind": kind, **attack.assessed_with}
        asks = attack.model_validate(document).asks
        found[asks] += [document] if asks != "attribute" else _of_columns(document, scenario, every)
    found["records"] = found["records"] or own[:1]
    return [document for documents in found.values() for document in documents]


def _of_columns(document: dict[str, Any], scenario: Scenario, every: bool) -> list[dict[str, Any]]:
    """The parameters of an attack on an attribute, once for each of the columns."""
    if scenario.data.images:
        return []
    columns = population_of(scenario).table.schema.columns
    sensitive = [c.name for c in columns if c.sensitive] or [columns[0].name]
    return [{**document, "column": name} for name in (sensitive if every else sensitive[:1])]


def _leak(toml: str, variation: Variation, folder: Path) -> VariationLeak:
    """Run one variation in its folder, or read it where it is finished; runs in a process of the pool."""
    from fedinv.runs import run
    from fedinv.scenario.reading import loads

    scenario = loads(toml)
    run.check(scenario, "inline")
    results = run.anew_or_read(scenario, folder)
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
        records=worst_case(results.attacks).recovered if results.attacks else None,
        attribute=next(iter(columns.values()), None),
        columns=columns,
        membership=members[-1] if members else None,
        utility=results.utility,
        gap=_gap(scenario, folder, results),
    )


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


def most_helpful(leaks: Sequence[VariationLeak]) -> VariationLeak | None:
    """The single change that lowers the share of records recovered most, measurably; None where there is none.

    A change whose model cannot be measured is not among them: what it costs is not known.
    """
    base = leaks[0].records
    if base is None:
        return None
    found = [(one, change(base, one.records)) for one in leaks[1:] if one.utility.value is not None]
    helped = [(one, apart) for one, apart in found if apart is not None and apart[1][1] < 0]
    best = min(helped, key=lambda pair: (pair[1][0], -(pair[0].utility.value or 0.0)), default=None)
    return None if best is None else best[0]
