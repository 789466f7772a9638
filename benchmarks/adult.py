"""TabLeak's own batches of the Adult census table: its records, its weights, its reconstructions.

Vero et al. 2023 measure on FedSGD updates of an untrained MLP 100-100 with every input standardized, the one-hot ones
too. A network of standardized inputs is one of 0/1 inputs with other first-layer weights, and its update determines
the other's: with x = (h - mean) / std, the first layer is W_h = W_x / std and b_h = b_x - W_x mean / std. So attacks
get these batches in fedinv's encoding, with the same information in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.attacking import Score, attacked, build
from fedinv import roles
from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation
from fedinv.data.batches import local_batches
from fedinv.federation.training import Job, Training
from fedinv.judge.matching import Match, match
from fedinv.task.columns import Categorical, Column, Continuous
from fedinv.task.models import build as network_of
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

FOLDER = Path(__file__).parent / "adult_batches"
LR = 0.1
TOLERANCE = 0.319
SEEDS = 10
NUMBERS = {
    0: Continuous(name="age", mean=38.5480, std=13.21788, low=17, high=90, mode=36, integer=True),
    9: Continuous(name="fnlwgt", mean=0, std=1, low=-1.6684, high=12.31, mode=-0.1),
    26: Continuous(name="education-num", mean=10.11846, std=2.552881, low=1, high=16, mode=9, integer=True),
    61: Continuous(name="capital-gain", mean=0, std=1, low=-0.14674, high=13.18, mode=-0.14674),
    62: Continuous(name="capital-loss", mean=0, std=1, low=-0.21878, high=10.54, mode=-0.21878),
    63: Continuous(name="hours", mean=40.93805, std=12.00752, low=1, high=99, mode=40, integer=True),
}
"""Numeric columns by the position of their input; those whose unit is not known are in standard deviations."""
GROUPS = {
    1: ("workclass", 8),
    10: ("education", 16),
    27: ("marital-status", 7),
    34: ("occupation", 14),
    48: ("relationship", 6),
    54: ("race", 5),
    59: ("sex", 2),
    64: ("country", 41),
}
"""Name and number of values of each categorical column by the position of its first input."""


@dataclass(frozen=True)
class Batch:
    """One of TabLeak's victims: what an attacker sees and knows, and the truth."""

    seen: Observation
    knows: Knowledge
    schema: Schema
    records: Tensor
    """True records in the schema's encoding, float32 (n, width)."""
    labels: Tensor
    """True classes, int64 (n,)."""
    tableak: Claim | None = None
    """TabLeak's own reconstruction; None for the batches of `locally`."""

    def attacked(self, attack: Attack) -> Claim:
        """The claim of an attack on this batch."""
        return attack.run(self.seen, self.knows, np.random.default_rng(0), lambda _: None)

    def judged(self, claim: Claim) -> Match:
        """A claim judged against the true records."""
        return match(claim.records, self.schema.decode(self.records), self.schema, TOLERANCE)


def main() -> None:
    """Print results on FedSGD batches beside TabLeak's reconstructions of them, then on FedAvg of the same records."""
    torch.set_num_threads(1)
    for size in (1, 4, 8, 16, 32):
        theirs = Score()
        for batch in batches(size):
            if batch.tableak is not None:
                theirs.add(batch.judged(batch.tableak))
        print(theirs.line(f"MLP 100-100, {size} records, TabLeak").split("  exact")[0])
        for kind in ("exact", "row-space"):
            print(attacked(build(kind), batches(size)).line(f"MLP 100-100, {size} records, {kind}"))
    for size in (16, 32):
        for hidden in ((512, 512), (100, 100)):
            for kind in ("exact", "row-space"):
                name = f"FedAvg, MLP {hidden[0]}-{hidden[1]}, {size} records, {kind}"
                print(attacked(build(kind), (locally(size, hidden, seed) for seed in range(SEEDS))).line(name))


def batches(size: int) -> Iterator[Batch]:
    """Yield TabLeak's batches of `size` records."""
    schema, mean, std = _table()
    with np.load(FOLDER / f"adult_b{size}.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    weight, bias = arrays["p0"].double(), arrays["p1"].double()
    parameters = [weight / std, bias - weight @ (mean / std), *(arrays[f"p{i}"].double() for i in range(2, 6))]
    names = [f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    sent = {name: p.float() for name, p in zip(names, parameters, strict=True)}
    knows = Knowledge(
        Mlp(hidden=(100, 100)), "cross-entropy", schema, "fedsgd", LR, size, 1, momentum=0.0, weight_decay=0.0
    )
    for inputs, labels, claimed in zip(arrays["X"], arrays["y"], arrays["R"], strict=True):
        records = _plain(inputs, mean, std)
        seen = Observation((0,), (Exchange(1, sent, _update(sent, records, labels), size),))
        theirs = Claim(_plain(claimed, mean, std), torch.zeros(size))
        yield Batch(seen, knows, schema, records, labels, theirs)


def locally(size: int, hidden: tuple[int, ...], seed: int) -> Batch:
    """A client with `size` of the table's records after 5 local epochs of batch 8 at learning rate 0.05."""
    found = [batch for n in (1, 2, 4, 8, 16, 32) for batch in batches(n)]
    every, labels = torch.cat([b.records for b in found]), torch.cat([b.labels for b in found])
    _, first = np.unique(every.numpy(), axis=0, return_index=True)
    rows = torch.from_numpy(np.random.default_rng(seed).permutation(first)[:size])
    model, training = Mlp(hidden=hidden), Training("fedavg", 5, 8, 0.05, 0.0, 0.0)
    schema = found[0].schema
    network = network_of(model, schema.shape, schema.outputs, seed)
    sent = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    order = local_batches(training, size, "shuffle", seed, 0, 1)
    job = Job(network, every[rows], labels[rows], order, training, np.random.default_rng(seed))
    seen = Observation(
        (0,), (Exchange(1, sent, roles.load("clients", "training.plain_training").plain_training(job), size),)
    )
    knows = Knowledge(model, "cross-entropy", schema, "fedavg", 0.05, 8, 5, momentum=0.0, weight_decay=0.0)
    return Batch(seen, knows, schema, every[rows], labels[rows])


def _update(sent: dict[str, Tensor], records: Tensor, labels: Tensor) -> dict[str, Tensor]:
    weights = [tensor.clone().requires_grad_() for tensor in sent.values()]
    hidden = records
    for i in (0, 2):
        hidden = (hidden @ weights[i].T + weights[i + 1]).relu()
    loss = cross_entropy(hidden @ weights[4].T + weights[5], labels)
    return {name: -LR * slope for name, slope in zip(sent, torch.autograd.grad(loss, weights), strict=True)}


def _plain(inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Convert standardized one-hot inputs of records (n, width) to 0 and 1; numbers stay standardized."""
    plain = inputs.double() * std + mean
    hot = torch.zeros(len(mean), dtype=torch.bool)
    for start, (_, size) in GROUPS.items():
        hot[start : start + size] = True
    return torch.where(hot, plain.round(), plain).float()


def _table() -> tuple[Schema, Tensor, Tensor]:
    """The schema, and for each input (width,) mean and standard deviation: of a one-hot one its own, else 0 and 1.

    A standardized one-hot input is -sqrt(f / (1 - f)) where it is not set, f being its frequency.
    """
    with np.load(FOLDER / "adult_b32.npz") as file:
        unset = file["X"].reshape(-1, file["X"].shape[-1]).astype(np.float64).min(0)
    share = unset**2 / (1 + unset**2)
    mean, std = np.zeros(len(unset)), np.ones(len(unset))
    columns: dict[int, Column] = {**NUMBERS}
    for start, (name, size) in GROUPS.items():
        at = slice(start, start + size)
        mean[at], std[at] = share[at], np.sqrt(share[at] * (1 - share[at])) + (share[at] == 0)
        values = tuple(f"{name}-{i}" for i in range(size))
        columns[start] = Categorical(name=name, values=values, frequencies=tuple(share[at].tolist()))
    schema = Schema(
        columns=tuple(columns[start] for start in sorted(columns)), label="income", classes=("<=50K", ">50K")
    )
    return schema, torch.from_numpy(mean), torch.from_numpy(std)
