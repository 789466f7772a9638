"""A run from scenario to report: train, attack, judge, write. Each stage picks up what an earlier stop left behind."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from fedinv import __version__, attacking, files, plugins, privacy
from fedinv.attack import Attack, Progress
from fedinv.data.population import Population
from fedinv.errors import RequestError, RunError, nearest
from fedinv.faults import explain
from fedinv.headline import headline
from fedinv.judge import records
from fedinv.judge.truth import everyone, true_rows
from fedinv.judge.utility import auc
from fedinv.judge.verdict import Case, Rates, Verdict, judge
from fedinv.models import load
from fedinv.report import render
from fedinv.results import AttackResult, FederationResult, Interval, LeftOutClient, Results, Undefended, Utility
from fedinv.scenario import Scenario, read
from fedinv.streams import stream

Steps = Callable[[str], Progress]
"""Called with what begins; returns where its progress goes."""

ENGINES = ("inline", "ray", "deployment")


def quiet(_: str) -> Progress:
    """Steps for a caller who wants no progress shown."""
    return lambda _: None


def check(scenario: Scenario, engine: str) -> None:
    """Raise RequestError for an engine that is not there or data that cannot be used, before anything is written."""
    _engine(engine)
    everyone(scenario)


def open_folder(scenario: Scenario, out: Path | None) -> Path:
    """The folder of a new run, or of an unfinished one of the same scenario, with scenario.toml written.

    Without `out`: runs/<scenario>-<n> with the first free n. Raises RequestError for a folder that holds anything else.
    """
    if out is None:
        runs, number = Path("runs"), 1
        while (runs / f"{scenario.name}-{number}").exists():
            number += 1
        out = runs / f"{scenario.name}-{number}"
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file, name a folder")
    declared = out / "scenario.toml"
    if declared.is_file():
        if (out / "results.json").is_file():
            raise RequestError(f"--out {out}: holds a finished run; name another folder, or see fedinv report {out}")
        if read(str(declared)) != scenario:
            raise RequestError(f"--out {out}: holds an unfinished run of another scenario; name another folder")
    elif out.is_dir() and any(out.iterdir()):
        raise RequestError(f"--out {out}: is not empty and holds no run; name another folder")
    else:
        files.write(declared, scenario.to_toml())
    return out.resolve()


def run(scenario: Scenario, folder: Path, engine: str = "inline", steps: Steps = quiet) -> Results:
    """Run a scenario in its folder to results.json and report.html; an unfinished run goes on where it stopped.

    Raises RequestError when the scenario's data cannot be used, RunError when the run fails.
    """
    people = everyone(scenario)
    attacking.threads(1)
    _train(scenario, folder, engine, steps("training"))
    if scenario.defenses:
        _train(scenario.undefended(), folder / "undefended", engine, steps("training without defenses"))
    return assess(scenario, folder, scenario.attacks, _trained_by(folder), people, steps)


def again(folder: Path, kind: str, settings: dict[str, object], steps: Steps = quiet) -> Results:
    """Attack a finished run once more, and add the verdict to its results.

    Raises RequestError for an unknown attack or setting, or a folder that holds no finished run.
    """
    if not (folder / "results.json").is_file():
        raise RequestError(f"{folder}: holds no finished run; start one with fedinv run")
    scenario = read(str(folder / "scenario.toml"))
    before = Results.model_validate(files.read_json(folder / "results.json"))
    attacks = [parse_attack(found.parameters) for found in before.attacks]
    new = parse_attack({**settings, "kind": kind})
    attacks = list(dict.fromkeys([*attacks, new]))
    return assess(scenario, folder, attacks, before.engine, everyone(scenario), steps)


def parse_attack(parameters: dict[str, object]) -> Attack:
    """An attack from its kind and settings. Raises RequestError naming the nearest right spelling."""
    kind = str(parameters.get("kind"))
    model = plugins.load("attacks", kind)
    try:
        attack = model.model_validate(parameters)
    except ValidationError as error:
        raise RequestError(f"attack {kind}: {explain(error, model, parameters)}") from None
    if not isinstance(attack, Attack):
        raise RequestError(f"attack {kind}: its class does not derive from fedinv.attack.Attack")
    return attack


def assess(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], engine: str, people: Population, steps: Steps
) -> Results:
    """Attack a trained run's observations, judge the claims, and write results, records and report."""
    seen = attacking.observed(folder) if attacks else ()
    judged, tables = [], []
    for assault in attacking.assaults(scenario, attacks):
        outcome = attacking.run_attack(
            scenario, folder, assault, seen, steps(f"attack {assault.attack.kind} ({assault.variant})")
        )
        if not outcome.claims:
            continue
        cases = [Case(claim, true_rows(scenario, people, o.clients, o.last.round)) for o, claim in outcome.claims]
        rng = stream(scenario.seed, "judge")
        verdicts, rates = judge(cases, people, scenario.judge.tolerance, rng)
        judged.append(_result(outcome, verdicts, rates, people))
        tables.append(records.table(outcome, verdicts, people))
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
            parameters=sum(p.numel() for p in _network(scenario, people, folder).parameters()),
            bytes_up=progress["bytes_up"],
            seconds=progress["seconds"],
            records=sum(len(share) for share in people.shares),
            left_out=[LeftOutClient(**one) for one in progress["left_out"]],
        ),
        utility=utility,
        privacy=spent,
        attacks=judged,
        notes=list(people.table.notes),
        headline=headline(scenario, judged, spent, utility, scenario.data.people, scenario.data.parties),
    )
    if tables:
        files.write(folder / "records.parquet", records.to_parquet(tables))
    files.write_json(folder / "results.json", results.model_dump(mode="json"))
    render(folder)
    log(folder, "finished", headline=results.headline)
    done(1.0)
    return results


def log(folder: Path, event: str, **facts: object) -> None:
    """Append an event to the run's log.jsonl."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts}, default=str)
    try:
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(f"{folder / 'log.jsonl'}: cannot be written ({error.strerror})") from error


def _engine(name: str) -> Callable[[Scenario, Path, Callable[[int], None]], None]:
    """An engine's entry."""
    if name not in ENGINES:
        raise RequestError(f"--engine {name}: unknown engine{nearest(name, ENGINES)}")
    try:
        train: Callable[[Scenario, Path, Callable[[int], None]], None] = import_module(f"fedinv.engines.{name}").train
    except ModuleNotFoundError as error:
        raise RequestError(
            f"--engine {name}: is not part of fedinv {__version__}; use --engine inline, or flwr run for Flower's own"
        ) from error
    return train


def _trained_by(folder: Path) -> str:
    """The engine that trained a run; "flower" for one that `flwr run` left here."""
    path = folder / "log.jsonl"
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return next((str(e["engine"]) for e in reversed(events) if e["event"] == "training"), "flower")


def _train(scenario: Scenario, folder: Path, engine: str, progress: Progress) -> None:
    """Train unless the ledger, written last, shows that it was done."""
    if (folder / "ledger.json").is_file():
        progress(1.0)
        return
    expected = scenario.federation.rounds * scenario.federation.participants
    replies = 0
    checkpoint = folder / "checkpoint" / "progress.json"
    if checkpoint.is_file():
        replies = files.read_json(checkpoint)["round"] * scenario.federation.participants

    def on_reply(_: int) -> None:
        nonlocal replies
        replies += 1
        progress(replies / expected)

    folder.mkdir(parents=True, exist_ok=True)
    log(folder, "training", engine=engine, scenario=scenario.name)
    _engine(engine)(scenario, folder, on_reply)
    progress(1.0)


def _result(outcome: attacking.Outcome, verdicts: Sequence[Verdict], rates: Rates, people: Population) -> AttackResult:
    claims = [claim for _, claim in outcome.claims]
    mismatches = [claim.mismatch for claim in claims if claim.mismatch is not None]
    named = people.table.identities is not None
    return AttackResult(
        kind=outcome.assault.attack.kind,
        variant=outcome.assault.variant,
        target=outcome.assault.target,
        parameters=outcome.assault.attack.model_dump(mode="json"),
        observations=len(claims),
        records=sum(len(v.case.rows) for v in verdicts),
        claimed=sum(len(claim.records) for claim in claims),
        seconds=outcome.seconds,
        field_accuracy=rates.field_accuracy,
        recovered=rates.recovered,
        exact=rates.exact,
        reidentified=rates.reidentified if named else None,
        chance=1 / len(people.table) if named else None,
        mismatch=sum(mismatches) / len(mismatches) if mismatches else None,
        notes=list(dict.fromkeys(note for claim in claims for note in claim.notes)),
    )


def _network(scenario: Scenario, people: Population, folder: Path) -> nn.Sequential:
    schema = people.table.schema
    last = folder / "checkpoint" / f"model-{scenario.federation.rounds:04}.safetensors"
    return load(scenario.model, schema.width, len(schema.classes), files.read_tensors(last)[0])


def _utility(scenario: Scenario, folder: Path, people: Population) -> Utility:
    def measure(where: Path) -> tuple[float, Interval]:
        network = _network(scenario, people, where)
        rng = stream(scenario.seed, "utility")
        return auc(network, people.inputs[people.holdout], people.labels[people.holdout], rng)

    value, interval = measure(folder)
    undefended = None
    if scenario.defenses:
        plain, plain_interval = measure(folder / "undefended")
        undefended = Undefended(value=plain, ci95=plain_interval)
    return Utility(metric="auc", value=value, ci95=interval, count=len(people.holdout), undefended=undefended)


def _versions() -> dict[str, str]:
    packages = ("torch", "flwr", "opacus", "numpy", "dp-accounting")
    return {"fedinv": __version__, "python": platform.python_version(), **{p: version(p) for p in packages}}
