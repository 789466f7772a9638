"""Which claims explain an update, and how many of the records that are claimed without a schema are false."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.attacking import build
from benchmarks.victims import victim
from fedinv import roles
from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation
from fedinv.task.networks.perceptron import Mlp

VICTIMS = 100
BLURRED = 20
"""Victims of the search that is blurred most, half a minute each."""
DRAWS = 20
RIGHT = 0.319
"""Largest error of a right record's inputs, in standard deviations of all of them."""
UPDATES = {
    **{f"FedSGD, {n} records": ["training.algorithm=fedsgd", f"training.batch_size={n}"] for n in (4, 16, 64, 128)},
    "FedAvg, 32 records": [],
    "FedAvg, 256 records": [],
}


def main() -> None:
    """Mismatch of true and of drawn records on hospital and bank; then claims of row-space and exact on 100 victims."""
    torch.set_num_threads(1)
    for data in ("hospital", "bank"):
        for name, settings in UPDATES.items():
            _mismatches(data, name, settings)
    withheld = build("row-space", seconds=5.0)
    claims = [_without_schema(withheld, seed) for seed in range(VICTIMS)]
    print(_counts("row-space, no schema, 256 records, 8 steps", claims))
    blurred = build("row-space", rounds=1, seconds=20.0)
    claims = [_blurred(blurred, 100 + seed) for seed in range(BLURRED)]
    print(_counts("row-space, 200 records, 125 steps, learning rate 0.3", claims))
    for steps in (1, 5):
        for n in (4, 32, 64):
            claims = [_behind_features(n, steps, seed) for seed in range(VICTIMS)]
            print(_counts(f"exact behind a convnet's features, {n} records, {steps} steps", claims))


def _mismatches(data: str, name: str, settings: list[str]) -> None:
    """Print what the true records, half of them with drawn others, and drawn ones, leave unexplained of an update."""
    count = int(name.split()[1])
    recompute = roles.load("server", "inversion.recompute")
    found: dict[str, list[float]] = {"true": [], "half true": [], "drawn": []}
    for seed in range(4):
        sized = [f"training.records_per_client={max(16, count)}", "federation.clients=2", "attacker.watch.clients=1"]
        one = victim(data, [*sized, *settings, f"seed={seed}"])
        table, last, rng = one.people.table, one.seen.last, np.random.default_rng(seed)
        knows = one.scenario.knowledge(table.schema, adaptive=False, records=len(one.people.shares[0]))
        true, labels = one.people.inputs[one.rows], one.people.labels[one.rows]
        for _ in range(DRAWS if knows.algorithm == "fedsgd" else 3):
            drawn = table.schema.draw(len(true), rng)
            half = torch.cat([true[: len(true) // 2], drawn[len(true) // 2 :]])
            for kind, records in (("true", true), ("half true", half), ("drawn", drawn)):
                update = recompute.recompute_update(knows, last.sent, records, labels, rng)
                found[kind].append(recompute.mismatch(update, last.received))
    ranges = "  ".join(f"{kind} {min(values):.2g} to {max(values):.2g}" for kind, values in found.items())
    print(f"{data}, {name}: {ranges}")


def _without_schema(attack: Attack, seed: int) -> tuple[Claim, Tensor]:
    """The claim on a hospital's update after 8 local steps on 256 records, without the schema, and the truth."""
    settings = ["training.records_per_client=256", "training.batch_size=32", "training.epochs=1", f"seed={seed}"]
    one = victim("hospital", [*settings, "federation.clients=2", "attacker.watch.clients=1"])
    known = one.scenario.knowledge(one.people.table.schema, adaptive=False, records=256)
    claim = attack.run(one.seen, replace(known, schema=None), np.random.default_rng(seed), lambda _: None)
    assert isinstance(claim, Claim)
    return claim, one.people.inputs[one.rows]


def _blurred(attack: Attack, seed: int) -> tuple[Claim, Tensor]:
    """The claim on a hospital's update after many large local steps, with the schema, and the truth."""
    settings = ["training.records_per_client=200", "training.lr=0.3", f"seed={seed}"]
    one = victim("hospital", [*settings, "federation.clients=2", "attacker.watch.clients=1"])
    return one.attacked(attack), one.people.inputs[one.rows]


def behind_features(count: int, steps: int, seed: int) -> tuple[Observation, Knowledge, Tensor]:
    """The dense layers' part of a convnet's update, what is known of them, and the features that they saw."""
    torch.manual_seed(seed)
    seen_by = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU())
    features = nn.Sequential(*seen_by, nn.MaxPool2d(2), nn.Flatten())
    dense = nn.Sequential(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    images = 2 * nn.functional.interpolate(torch.rand(count, 3, 8, 8), 32, mode="bilinear") - 1
    labels, network = torch.randint(0, 10, (count,)), nn.Sequential(features, dense)
    truth = features(images).detach()
    sent = {name: weight.detach().clone() for name, weight in dense.named_parameters()}
    descent = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(steps):
        descent.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        descent.step()
    received = {name: weight.detach() - sent[name] for name, weight in dense.named_parameters()}
    knows = Knowledge(
        model=Mlp(hidden=(120, 84)),
        loss="cross-entropy",
        algorithm="fedsgd" if steps == 1 else "fedavg",
        lr=0.01,
        batch_size=count,
        epochs=steps,
        momentum=0.0,
        weight_decay=0.0,
    )
    return Observation((0,), (Exchange(1, sent, received, count),)), knows, truth


def _behind_features(count: int, steps: int, seed: int) -> tuple[Claim, Tensor]:
    seen, knows, truth = behind_features(count, steps, seed)
    claim = build("exact", seconds=3.0, rounds=2).run(seen, knows, np.random.default_rng(seed), lambda _: None)
    assert isinstance(claim, Claim)
    return claim, truth


def _counts(name: str, claims: list[tuple[Claim, Tensor]]) -> str:
    """One line: records claimed, right and false, and those of them that count as verified."""
    right = [_right(claim, truth) for claim, truth in claims]
    claimed, false = sum(map(len, right)), sum(int((~one).sum()) for one in right)
    verified = sum(int(claim.verified.sum()) for claim, _ in claims)
    wrong = sum(int((claim.verified & ~one).sum()) for (claim, _), one in zip(claims, right, strict=True))
    told = f"claimed {claimed}, right {claimed - false}, false {false}"
    return f"{name}: {told}; verified {verified}, of them false {wrong}"


def _right(claim: Claim, truth: Tensor) -> Tensor:
    """Which claimed records are within RIGHT of a true one in every input, bool (k,)."""
    if not len(claim.records):
        return torch.zeros(0, dtype=torch.bool)
    near: Tensor = torch.cdist(claim.records, truth, p=torch.inf).amin(1) < RIGHT * float(truth.std())
    return near
