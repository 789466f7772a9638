"""From a trained run to its verdict: attack the observations, judge the claims, write the results."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Literal

import pyarrow as pa

from fedinv.attack import Attack, Observation, Progress, Question
from fedinv.engines import inline
from fedinv.federation.streams import stream
from fedinv.judge import record_table
from fedinv.judge.questions import Finding, Heard, Setting, Tried, judge_of
from fedinv.judge.utility import auc, r2
from fedinv.report import render
from fedinv.results.run import (
    AttackResult,
    FederationResult,
    InferenceResult,
    Interval,
    Results,
    Undefended,
    Utility,
)
from fedinv.results.wording import metric_text, outcome_text
from fedinv.runs.attack_runner import AttackPlan, ProgressBars, control_plan, plans, run_attack
from fedinv.runs.context import TrainedRun
from fedinv.runs.headline import headline
from fedinv.runs.price import spent
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.checkpoints import Charges, read_charges, read_vetting
from fedinv.version import __version__


def evaluate(run: TrainedRun, attacks: Sequence[Attack], engine: str, bars: ProgressBars, page: bool = True) -> Results:
    """Attack a trained run, judge the claims and answers, and write results.json, records.parquet and the report.

    Without `page` the report is left to whoever asks for it, which saves a second.
    """
    run.check_files()
    judged = [one for attack in attacks for one in _judged(run, attack, bars)]
    published = [result for result, _ in judged]
    tables = [table for _, table in judged if table is not None]
    done = bars("report")
    results = _results(
        run,
        engine,
        [one for one in published if isinstance(one, AttackResult)],
        [one for one in published if isinstance(one, InferenceResult)],
    )
    if tables:
        files.write(run.folder.records, record_table.to_parquet(tables))
    if page:
        render(run.folder.root, results)
    files.write_json(run.folder.results, results.model_dump(mode="json"))  # last: a run that has it is finished
    done(1.0)
    return results


def judged_last(run: TrainedRun, attack: Attack) -> AttackResult | InferenceResult | None:
    """Judge an attack that knows the defenses on each target's last watched round, whose earlier ones it has too.

    None where there was no observation to attack. Nothing is written but the claims.
    """
    plan = replace([*plans(run.scenario, attack)][-1], last_only=True)
    tried, finding = _tried(run, plan, lambda _: None)
    return None if finding is None else finding.result(tried, None)


def _judged(
    run: TrainedRun, attack: Attack, bars: ProgressBars
) -> Iterator[tuple[AttackResult | InferenceResult, pa.Table | None]]:
    """One attack's results in each of its variants, beside those on the same federation without defenses."""
    control = None
    if run.undefended is not None:
        _, control = _tried(run.undefended, control_plan(attack), bars(f"attack {attack.kind} (undefended)"))
    for plan in plans(run.scenario, attack):
        done = bars(f"attack {attack.kind} ({plan.variant})")
        tried, finding = _tried(run, plan, done)
        if finding is not None:
            result = finding.result(tried, control)
            done(1.0, outcome_text(result))  # there to be read while the next attack runs
            yield result, finding.table(tried)


def _tried(run: TrainedRun, plan: AttackPlan, progress: Progress) -> tuple[Tried, Finding | None]:
    """Ask, run and judge one attack; the finding is None where it had no observation to attack."""
    question = judge_of(plan.attack.asks)
    setting = Setting(run.scenario, run.people, plan.attack, run.network)

    def ask(seen: Observation) -> Question | None:
        return question.ask(setting, seen)

    tried = run_attack(run, plan, run.grants(ask), progress)
    heard = [Heard(seen, ask(seen), said) for seen, said in tried.said]
    if not heard:
        return tried, None
    return tried, question.judge(setting, heard, stream(run.scenario.seed, "judge", plan.attack.kind))


def _results(run: TrainedRun, engine: str, attacks: list[AttackResult], inferences: list[InferenceResult]) -> Results:
    scenario, people, utility = run.scenario, run.people, _utility(run)
    ledger, progress = read_charges(run.folder.ledger), run.progress
    vetted = list(read_vetting(run.folder.vetting).found)
    privacy = spent(scenario, ledger.clients, progress.left_out)
    return Results(
        scenario=scenario.name,
        engine=engine,
        seed=scenario.seed,
        versions=_versions(),
        federation=FederationResult(
            clients=scenario.federation.clients,
            rounds=scenario.federation.rounds,
            parameters=sum(p.numel() for p in run.network().parameters()),
            bytes_up=progress.bytes_up,
            seconds=progress.seconds,
            records=sum(people.holds.values()),
            left_out=list(progress.left_out),
            vetting=vetted,
            trained=inline.how(scenario) if engine == "inline" else "",
        ),
        utility=utility,
        privacy=privacy,
        attacks=attacks,
        inferences=inferences,
        notes=[*people.table.notes, *_not_measurable(utility), *_in_clear(scenario), *_silent(ledger)],
        headline=headline(
            scenario, attacks, privacy, utility, scenario.data.people, scenario.data.parties, inferences, vetted
        ),
    )


def _not_measurable(utility: Utility) -> list[str]:
    """A note on the metric where it cannot be measured, with what to change."""
    if utility.value is not None:
        return []
    why = "are all of one class" if utility.metric == "auc" else "all have the same label"
    return [
        f"{metric_text(utility)} is not measurable: the {utility.count} records held out {why}; raise data.holdout, or "
        "use more records"
    ]


def _in_clear(scenario: Scenario) -> list[str]:
    """A note for each defense beside which the server sees something in the clear."""
    return [
        f"behind {defense.kind} the server still sees in the clear: {defense.in_clear}"
        for defense in scenario.defenses
        if defense.in_clear is not None
    ]


def _silent(ledger: Charges) -> list[str]:
    """A note where clients did not say what they were charged."""
    if not ledger.silent:
        return []
    named = ", ".join(map(str, ledger.silent[:5])) + (" and others" if len(ledger.silent) > 5 else "")
    return [f"the privacy claim leaves out {len(ledger.silent)} clients that sent no ledger of theirs: client {named}"]


def _utility(run: TrainedRun) -> Utility:
    """The trained model's metric on held-out records, beside that of the model trained without defenses."""
    people = run.people
    metric: Literal["auc", "r2"] = "auc" if people.table.schema.target is None else "r2"
    measured = auc if metric == "auc" else r2

    def measure(one: TrainedRun) -> tuple[float | None, Interval | None]:
        rng = stream(run.scenario.seed, "utility")
        found = measured(one.network(), people.inputs[people.holdout], people.labels[people.holdout], rng)
        return found or (None, None)

    value, interval = measure(run)
    undefended = None
    if run.undefended is not None:
        plain, plain_interval = measure(run.undefended)
        undefended = Undefended(value=plain, ci95=plain_interval)
    return Utility(metric=metric, value=value, ci95=interval, count=len(people.holdout), undefended=undefended)


def _versions() -> dict[str, str]:
    packages = ("torch", "flwr", "opacus", "numpy", "dp-accounting")
    return {"fedinv": __version__, "python": platform.python_version(), **{p: version(p) for p in packages}}
