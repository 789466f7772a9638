"""A finished run's folder, made by the real judge from invented people and claims."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedinv.attack import Attack, Claim, Exchange, Observation
from fedinv.data.population import Population
from fedinv.data.table import Table
from fedinv.judge import record_table
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.linking import register
from fedinv.judge.questions import Tried
from fedinv.judge.verdict import Case, judge
from fedinv.results.run import AttackResult, FederationResult, LeftOutClient, Privacy, Results, Undefended, Utility
from fedinv.runs.headline import headline
from fedinv.scenario.reading import loads
from fedinv.storage import files
from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must look at the page")
        pytest.skip("chromium is not installed")
    return found


SCENARIO = """\
name = "clinic"
[data]
source = "breast-cancer"
[federation]
clients = 4
rounds = 2
[training]
algorithm = "fedavg"
[attacker]
watch = { rounds = [1], clients = 2 }
knows = ["architecture", "loss", "schema"]
"""
DEFENSE = """
[[defenses]]
kind = "dp-sgd"
noise_multiplier = 1.0
clip = 1.0
delta = 1e-5
"""
HOSTILE = "<script>alert(1)</script>"


def people(count: int = 64, columns: int = 6, hostile: str = HOSTILE) -> Population:
    """Invented people with numbers and categories; one column, one category and one name are hostile."""
    rng = np.random.default_rng(1)
    values = {f"measure {i}": rng.normal(100, 15, count) for i in range(columns - 3)}
    schema = [fit_continuous(name, v, unit="mmol/l") for name, v in values.items()]
    values["age ($)"] = rng.integers(18, 95, count).astype(float)
    schema.append(fit_continuous("age ($)", values["age ($)"], integer=True, unit="years"))
    for name, choices in ((f"smoker {hostile}", ["yes", "no"]), ("diagnosis", [f"I10 {hostile}", "E11", "F32"])):
        values[name] = rng.choice(choices, count).astype(object)
        schema.append(fit_categorical(name, values[name], sensitive=name == "diagnosis"))
    names = np.array([f"Maria {hostile} Huber {i}" for i in range(count)], dtype=object)
    table = Table(
        schema=Schema(columns=tuple(schema), label=f"outcome {hostile}", classes=("home", f"readmitted {hostile}")),
        columns=values,
        labels=rng.integers(0, 2, count),
        identities={"name": names, "birth_date": np.array(["1954-03-02"] * count, dtype=object)},
        notes=(f"invented people {hostile}",),
    )
    return Population(
        table=table,
        inputs=table.schema.encode(table.columns),
        labels=torch.from_numpy(table.labels),
        shares=tuple(np.array_split(np.arange(count), 4)),
        holdout=np.arange(4),
    )


def attack(who: Population, kind: str, variant: str, noise: float, share: float, target: str = "client"):
    """One attack's judged results and rows: claims are the truth with noise, of a share of the records."""
    rng, model = np.random.default_rng(2), Attack(kind=kind)
    groups = [(0,), (1,)] if target == "client" else [(0, 1, 2, 3)]
    claims, cases = [], []
    for clients in groups:
        rows = np.concatenate([who.shares[client] for client in clients])
        truth = who.inputs[rows[: int(share * len(rows))]]
        claim = Claim(
            truth + torch.from_numpy(rng.normal(0, 1, truth.shape) * noise).float(),
            torch.linspace(0.2, 1, len(truth)),
            notes=(f"a note {HOSTILE}",),
        )
        claims.append((Observation(clients, (Exchange(1, {}, {}, len(rows)),)), claim))
        cases.append(Case(claim, rows))
    outside = register(who, who.schema.names)
    verdicts, rates = judge(cases, who, 0.319, rng, outside=outside)
    tried = Tried(model, variant, target, tuple(claims), 1.5)
    result = AttackResult(
        kind=kind,
        variant=variant,
        target=target,
        parameters=model.model_dump(),
        observations=len(cases),
        records=sum(len(case.rows) for case in cases),
        claimed=sum(len(claim.records) for _, claim in claims),
        seconds=1.5,
        field_accuracy=rates.field_accuracy,
        recovered=rates.recovered,
        exact=rates.exact,
        reidentified=rates.reidentified,
        calibration=calibration(*confidences(verdicts)),
        chance=1 / len(who.table),
        outside_register=outside.name,
        mismatch=0.02,
        notes=[f"a note {HOSTILE}"],
    )
    return result, record_table.table(tried, verdicts, who)


def write_run(folder: Path, who: Population, attacks: list, defended: bool = False, text: str = SCENARIO) -> Results:
    """Write everything that a finished run has but its report."""
    toml = text + DEFENSE * defended
    scenario = loads(toml)
    privacy = (
        Privacy(unit="example", epsilon=6.9, delta=1e-5, accountant="PLD", note="dp-sgd: over all rounds")
        if defended
        else Privacy(unit=None, epsilon=None, delta=None, accountant=None, note="no defense is on")
    )
    utility = Utility(
        metric="auc",
        value=0.842,
        ci95=(0.81, 0.87),
        count=400,
        undefended=Undefended(value=0.863, ci95=(0.83, 0.89)) if defended else None,
    )
    judged = [result for result, _ in attacks]
    results = Results(
        scenario=scenario.name,
        engine="inline",
        seed=7,
        versions={"fedinv": "0.1.0", "torch": "2.13"},
        federation=FederationResult(
            clients=4,
            rounds=2,
            parameters=266754,
            bytes_up=4_200_000,
            seconds=3.2,
            records=64,
            left_out=[LeftOutClient(round=2, client=3, reason=f"not finite {HOSTILE}")],
        ),
        utility=utility,
        privacy=privacy,
        attacks=judged,
        notes=list(who.table.notes),
        headline=headline(scenario, judged, privacy, utility),
    )
    files.write(folder / "scenario.toml", toml)
    files.write_json(folder / "results.json", results.model_dump(mode="json"))
    files.write_json(folder / "schema.json", who.table.schema.model_dump(mode="json"))
    if attacks:
        files.write(folder / "records.parquet", record_table.to_parquet(table for _, table in attacks))
    return results


@pytest.fixture
def fabricate(tmp_path: Path) -> Callable[..., Path]:
    """Make a run folder; keywords go to `people` and `write_run`, attacks are (kind, variant, noise, share, target)."""

    def make(*attacks: tuple, defended: bool = False, **shape: object) -> Path:
        who, folder = people(**shape), tmp_path / "clinic-1"  # type: ignore[arg-type]
        folder.mkdir()
        write_run(folder, who, [attack(who, *one) for one in attacks], defended)
        return folder

    return make
