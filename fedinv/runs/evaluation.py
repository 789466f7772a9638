"""From a trained run's folder to its verdict: attack what was observed, judge the claims, write what came out."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from fedinv import __version__
from fedinv.attack import Attack, Claim, Observation
from fedinv.data.population import Population
from fedinv.engines import inline
from fedinv.federation.streams import stream
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.questions.records import Case, Rates, Verdict, judge
from fedinv.judge.truth import true_rows
from fedinv.judge.utility import auc, r2
from fedinv.privacy import claims as privacy
from fedinv.report import render
from fedinv.results.run import (
    AttackResult,
    Control,
    FederationResult,
    Interval,
    LeftOutClient,
    Results,
    Undefended,
    Utility,
)
from fedinv.runs import attack_runner, record_table
from fedinv.runs.attack_runner import Outcome, Steps
from fedinv.runs.context import granted, trained_network
from fedinv.runs.headline import headline
from fedinv.runs.inferring import inferences
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, observations


def evaluate(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], engine: str, people: Population, steps: Steps
) -> Results:
    """Attack a trained run's observations, judge the claims, and write results, records and report."""
    attacks, others = [a for a in attacks if a.asks == "records"], [a for a in attacks if a.asks != "records"]
    controls = _controls(scenario, folder / "undefended", attacks, people, steps)
    seen = observations.read(folder / "observations")
    judged, tables = [], []
    for assault in attack_runner.assaults(scenario, attacks):
        step = steps(f"attack {assault.attack.kind} ({assault.variant})")
        outcome = attack_runner.run_attack(scenario, folder, assault, seen, granted(scenario, folder, people), step)
        if outcome.claims:
            verdicts, rates = _judged(scenario, outcome, people)
            judged.append(_result(outcome, verdicts, rates, people, controls.get(assault.attack)))
            tables.append(record_table.table(outcome, verdicts, people))
    inferred = inferences(scenario, folder, others, people, steps)
    done = steps("report")
    utility = _utility(scenario, folder, people)
    spent = privacy.claim(files.read_json(folder / "ledger.json")["clients"], [d.kind for d in scenario.defenses])
    progress = files.read_json(folder / "checkpoint" / "progress.json")
    results = Results(
        scenario=scenario.name,
        engine=engine,
        seed=scenario.seed,
        versions=_versions(),
        federation=FederationResult(
            clients=scenario.federation.clients,
            rounds=scenario.federation.rounds,
            parameters=sum(p.numel() for p in trained_network(scenario, folder, people).parameters()),
            bytes_up=progress["bytes_up"],
            seconds=progress["seconds"],
            records=sum(people.holds.values()),
            left_out=[LeftOutClient(**one) for one in progress["left_out"]],
            trained=inline.how(scenario) if engine == "inline" else "",
        ),
        utility=utility,
        privacy=spent,
        attacks=judged,
        inferences=inferred,
        notes=[*people.table.notes, *_in_clear(scenario)],
        headline=headline(scenario, judged, spent, utility, scenario.data.people, scenario.data.parties, inferred),
    )
    if tables:
        files.write(folder / "records.parquet", record_table.to_parquet(tables))
    files.write_json(folder / "results.json", results.model_dump(mode="json"))
    render(folder)
    done(1.0)
    return results


def _controls(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], people: Population, steps: Steps
) -> Mapping[Attack, Control]:
    """What each attack gets from the same federation without defenses; empty where the scenario has none anyway."""
    if not scenario.defenses or not attacks:
        return {}
    plain, seen, found = scenario.undefended(), observations.read(folder / "observations"), {}
    for attack in attacks:
        assault = attack_runner.Assault(attack, "static", "client")
        step = steps(f"attack {attack.kind} (undefended)")
        outcome = attack_runner.run_attack(plain, folder, assault, seen, granted(plain, folder, people), step)
        if not outcome.claims:
            continue
        _, rates = _judged(plain, outcome, people)
        found[attack] = Control(field_accuracy=rates.field_accuracy, recovered=rates.recovered)
    return found


def _judged(scenario: Scenario, outcome: Outcome, people: Population) -> tuple[tuple[Verdict, ...], Rates]:
    cases = [Case(claim, true_rows(scenario, people, o.clients, o.last.round)) for o, claim in _claims(outcome)]
    return judge(cases, people, scenario.judge.tolerance, stream(scenario.seed, "judge"))


def _result(
    outcome: Outcome,
    verdicts: Sequence[Verdict],
    rates: Rates,
    people: Population,
    control: Control | None,
) -> AttackResult:
    claims = [claim for _, claim in _claims(outcome)]
    mismatches = [claim.mismatch for claim in claims if claim.mismatch is not None]
    named = people.table.identities is not None
    return AttackResult(
        kind=outcome.assault.attack.kind,
        variant=outcome.assault.variant,
        target="sum" if outcome.assault.target == "sum" else "client",
        parameters=outcome.assault.attack.model_dump(mode="json"),
        observations=len(claims),
        records=sum(len(v.case.rows) for v in verdicts),
        claimed=sum(len(claim.records) for claim in claims),
        seconds=outcome.seconds,
        field_accuracy=rates.field_accuracy,
        recovered=rates.recovered,
        exact=rates.exact,
        images=rates.images,
        reidentified=rates.reidentified if named else None,
        calibration=calibration(*confidences(verdicts)),
        chance=1 / len(people.table) if named else None,
        undefended=control,
        mismatch=sum(mismatches) / len(mismatches) if mismatches else None,
        notes=list(dict.fromkeys(note for claim in claims for note in claim.notes)),
    )


def _claims(outcome: Outcome) -> list[tuple[Observation, Claim]]:
    return [(seen, claim) for seen, claim in outcome.claims if isinstance(claim, Claim)]


def _in_clear(scenario: Scenario) -> list[str]:
    """What the server is told beside what a defense hides."""
    return [
        f"behind {defense.kind} the server still sees in the clear: {defense.in_clear}"
        for defense in scenario.defenses
        if defense.in_clear is not None
    ]


def _utility(scenario: Scenario, folder: Path, people: Population) -> Utility:
    metric: Literal["auc", "r2"] = "auc" if people.table.schema.target is None else "r2"
    measured = auc if metric == "auc" else r2

    def measure(where: Path, declared: Scenario) -> tuple[float, Interval]:
        network = trained_network(declared, where, people)
        rng = stream(scenario.seed, "utility")
        return measured(network, people.inputs[people.holdout], people.labels[people.holdout], rng)

    value, interval = measure(folder, scenario)
    undefended = None
    if scenario.defenses:
        plain, plain_interval = measure(folder / "undefended", scenario.undefended())
        undefended = Undefended(value=plain, ci95=plain_interval)
    return Utility(metric=metric, value=value, ci95=interval, count=len(people.holdout), undefended=undefended)


def _versions() -> dict[str, str]:
    packages = ("torch", "flwr", "opacus", "numpy", "dp-accounting")
    return {"fedinv": __version__, "python": platform.python_version(), **{p: version(p) for p in packages}}
