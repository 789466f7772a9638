"""Deviations that use several rounds, prepare other attacks or ask who is there: `differential` to `canary`.

Each row is over ten seeds on which nothing was tuned, each of another federation. Records and claims count as right
within 0.001 standard deviations. Kinds and tables as flags, as `--differential --bank`, select rows.
"""

import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.victims import victim
from fedinv import roles
from fedinv.attack import Exchange, Observation, Question, Sample
from fedinv.data.batches import local_batches
from fedinv.deviation import Turn
from fedinv.federation.streams import stream
from fedinv.federation.training import Job
from fedinv.judge.truth import held_out
from fedinv.task.models import load

SEEDS = range(100, 110)
EXACT = 1e-3
"""Largest error of a recovered record, in standard deviations."""

NEAR = 0.319
"""Error up to which the judge takes a number for right."""


@dataclass(frozen=True)
class Case:
    """Clients of a federation whose mean update is seen in some rounds."""

    says: str
    kind: str
    settings: dict[str, Any]
    hidden: int = 512
    each: int = 64
    clients: int = 1
    rounds: int = 1
    epochs: int = 0
    lr: float = 0.05
    table: str = "hospital"
    trained: int = 0
    """Epochs of training, on records that no client holds, of the model that the server begins with."""


def _differential(table: str, hidden: int, shift: float, clients: int = 1, trained: int = 0) -> Case:
    """Ten rounds of `differential`."""
    whose = f"sum of {clients} x 64" if clients > 1 else "64 records"
    model = f", trained {trained} epochs" if trained else ""
    says = f"differential, {table}, {whose}, shift {shift}, MLP {hidden}{model}"
    settings = {"shift": shift}
    return Case(says, "differential", settings, hidden, 64, clients, 10, table=table, trained=trained)


CASES = (
    *(
        _differential(table, hidden, shift)
        for table in ("hospital", "bank")
        for hidden in (512, 100)
        for shift in (0.03, 0.1, 0.3, 1.0)
    ),
    *(_differential(table, hidden, 0.5, trained=10) for table in ("hospital", "bank") for hidden in (512, 100)),
    *(_differential(table, hidden, 0.3, clients=20) for table in ("hospital", "bank") for hidden in (512, 100)),
    Case("fishing 4 of 1,000, 8 rounds", "fishing", {"most": 4}, each=1000, rounds=8),
    Case("fishing 4 of a sum of 20 x 64, 8 rounds", "fishing", {"most": 4}, clients=20, rounds=8),
    *(
        Case(f"{kind}, FedAvg 5 epochs by 8, lr {lr}, {each} records", kind, {}, each=each, epochs=5, lr=lr)
        for each, lr in ((32, 0.5), (64, 0.05))
        for kind in ("exact", "freeze")
    ),
    Case("canary, sum of 20 x 64, 3 rounds", "canary", {}, clients=20, rounds=3),
    Case("canary, the same by FedAvg, 5 epochs by 8", "canary", {}, clients=20, rounds=3, epochs=5),
)


def main() -> None:
    """Print a line for each case: recovered of all records, false claims, CPU seconds a federation."""
    torch.set_num_threads(1)
    chosen = [case.kind for case in CASES if f"--{case.kind}" in sys.argv]
    tables = [case.table for case in CASES if f"--{case.table}" in sys.argv]
    for case in (one for one in CASES if (not chosen or one.kind in chosen) and (not tables or one.table in tables)):
        begun = time.process_time()
        found = np.array([_play(case, seed) for seed in SEEDS], dtype=float)
        spent = (time.process_time() - begun) / len(SEEDS)
        if case.kind == "canary":
            low, high = 100 * found[:, 0].min(), 100 * found[:, 0].max()
            print(f"{case.says}: TPR at 1 % FPR {100 * found[:, 0].mean():.1f} % [{low:.1f}, {high:.1f}]", end="")
            print(f"; {found[:, 1].sum():.0f} of {found[:, 2].sum():.0f} others score; {spent:.1f} s", flush=True)
            continue
        right, false, claims = found[:, 0], found[:, 1].sum(), found[:, 2].sum()
        print(
            f"{case.says}: {right.mean():.1f} of {case.each * case.clients} [{right.min():.0f}, {right.max():.0f}]",
            end="",
        )
        print(
            f"; {false:.0f} of {claims:.0f} claims false, {found[:, 4].sum():.0f} by more than the judge's tolerance",
            end="",
        )
        print(f"; {found[:, 6].sum():.0f} of {found[:, 5].sum():.0f} verified false", end="")
        print(f"; {found[:, 3].mean():.1f} s to craft and read", flush=True)


def _play(case: Case, seed: int) -> tuple[float, ...]:
    """Recovered records, false and all claims, seconds, grossly false, verified, and false verified claims.

    For canaries the TPR, others that score, and others.
    """
    algorithm, batch = ("fedavg", 8) if case.epochs else ("fedsgd", case.each)
    size = max(2, case.clients) * case.each
    settings = [
        f"seed={seed}",
        f"data.records={size + 1400}",
        'data.partition={kind="iid"}',
        f"federation.clients={max(2, case.clients)}",
        "attacker.watch={rounds=[1],clients=1}",
        f'model={{kind="mlp",hidden=[{case.hidden},{case.hidden}]}}',
        f"training.records_per_client={case.each}",
        f'training.algorithm="{algorithm}"',
        f"training.batch_size={batch}",
        f"training.epochs={max(1, case.epochs)}",
        f"training.lr={case.lr}",
    ]
    one = victim(case.table, settings)
    scenario, people, model = one.scenario, one.people, one.seen.last.sent
    cohort, schema = tuple(range(case.clients)), people.schema
    rows = np.concatenate([people.shares[client] for client in cohort])
    _, others = held_out(scenario, people)
    asked = np.random.default_rng(seed).permutation(np.concatenate([rows[:1000], others[:1000]]))
    if case.trained:
        model = _trained(one, model, others, case.trained)
    question = Question(people=Sample(people.inputs[asked], people.labels[asked]))
    knows = scenario.knowledge(schema, adaptive=True, records=case.each)
    if case.kind == "canary":
        knows = type(knows)(**{**knows.__dict__, "question": question})
    attack = roles.load("server", "attacks.inference.presence").Presence()
    honest = case.kind == "exact"
    deviation = _deviation(case)
    seen, spent = tuple[Exchange, ...](), 0.0
    for round_ in range(1, case.rounds + 1):
        begun = time.process_time()
        turn = Turn(0, round_, cohort, (0,), seen if deviation.looks_back else ())
        sent = model if honest else deviation.craft(model, knows, turn, stream(seed, "deviation", round_))
        spent += time.process_time() - begun
        seen = (*seen, Exchange(round_, sent, _mean(one, sent, cohort, round_), len(rows)))
    begun = time.process_time()
    observation = Observation(cohort, seen)
    if case.kind == "canary":
        scores = attack.run(observation, knows, stream(seed, "attack"), lambda _: None).scores[:, 0].numpy()
        inside = np.isin(asked, rows)
        out = np.sort(scores[~inside])[::-1]
        return float((scores[inside] > out[int(0.01 * len(out))]).mean()), float((out > 0).sum()), float(len(out))
    claim = deviation.claim(observation, knows, stream(seed, "attack"), lambda _: None)
    spent += time.process_time() - begun
    if not len(claim.records):
        return 0.0, 0.0, 0.0, spent, 0.0, 0.0, 0.0
    off = torch.cdist(claim.records.double(), people.inputs[rows].double(), p=torch.inf)
    nearest, sure = off.amin(1), claim.verified
    counts = (off.amin(0) < EXACT, nearest > EXACT, nearest >= 0, nearest > NEAR, sure, sure & (nearest > EXACT))
    right, false, claims, gross, verified, wrong = (float(one.sum()) for one in counts)
    return right, false, claims, spent, gross, verified, wrong


def _deviation(case: Case) -> Any:
    """The deviation, or that whose read-out is `exact` on honest weights."""
    kind = "freeze" if case.kind == "exact" else case.kind
    module = roles.load("server", f"malicious.{kind}")
    return getattr(module, kind.capitalize())(**case.settings)


def _trained(one: Any, model: Any, others: Any, epochs: int) -> dict[str, torch.Tensor]:
    """The model after training on records that no client holds."""
    scenario, people = one.scenario, one.people
    training = replace(scenario.training.settings, algorithm="fedavg", epochs=epochs, batch_size=32, lr=0.1)
    network = load(scenario.model, people.schema.shape, people.schema.outputs, {n: t.clone() for n, t in model.items()})
    batches = local_batches(training, len(others), "shuffle", scenario.seed, 0, 1)
    job = Job(network, people.inputs[others], people.labels[others], batches, training, stream(scenario.seed, "model"))
    update = roles.load("clients", "training.plain_training").plain_training(job)
    return {name: tensor + update[name] for name, tensor in model.items()}


def _mean(one: Any, sent: Any, cohort: tuple[int, ...], round_: int) -> dict[str, torch.Tensor]:
    """The mean of the clients' updates, each weighted by its records, as a secure aggregation would reveal it."""
    scenario, people = one.scenario, one.people
    schema, training, total = people.schema, scenario.training.settings, dict[str, torch.Tensor]()
    count = sum(len(people.shares[client]) for client in cohort)
    for client in cohort:
        share = people.shares[client]
        network = load(scenario.model, schema.shape, schema.outputs, {n: t.clone() for n, t in sent.items()})
        batches = local_batches(training, len(share), "shuffle", scenario.seed, client, round_)
        rng = stream(scenario.seed, "training", client, round_)
        job = Job(network, people.inputs[share], people.labels[share], batches, training, rng)
        update = roles.load("clients", "training.plain_training").plain_training(job)
        total = {n: total.get(n, torch.zeros(())) + t.double() * (len(share) / count) for n, t in update.items()}
    return {name: tensor.float() for name, tensor in total.items()}
