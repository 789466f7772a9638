"""A malicious server's crafted weights: records read to every digit, false ones, and CPU seconds, over ten seeds.

Hospital and bank, perceptrons of 512-512 and 100-100 units, dictionary only, one round. Clients train by fedinv's own
local training; a secure sum is that of masking (integers modulo 2^64) or of SecAgg+ (Flower's quantization, 2^22 steps
over a clipping range of 8), and the server gets nothing else. Thirty CPU minutes with the long sums; `--local-steps`
prints the rows of clients that take several steps alone.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from torch import Tensor

from fedinv import plugins, roles
from fedinv.attack import Claim, Exchange, Observation, Weights
from fedinv.data.batches import local_batches
from fedinv.data.population import Population
from fedinv.deviation import Deviation, Turn
from fedinv.federation import ring
from fedinv.federation.streams import stream
from fedinv.federation.training import Job
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import build, load, state

SEEDS = range(101, 111)
DIGITS = 1e-3
"""Largest error of a right record's inputs, in standard deviations."""
NEAR = 0.319
"""Error up to which the judge takes a number for right."""
Sum = Literal["plain", "masking", "secagg-plus"]


@dataclass(frozen=True)
class Case:
    """A federation of one round."""

    table: str
    width: int
    clients: int
    each: int
    """Records of a client."""
    epochs: int = 0
    """Local epochs in batches of 8; 0 for one step on all of a client's records."""
    sum: Sum = "plain"
    layers: int = 2
    """Hidden layers, of `width` units each."""
    rounds: int = 1
    """Rounds that the attacker watches."""

    def scenario(self, seed: int) -> Scenario:
        """The federation as a scenario."""
        algorithm = "fedavg" if self.epochs else "fedsgd"
        return read(
            self.table,
            [
                f"seed={seed}",
                f"data.records={max(2000, self.clients * self.each * 5 // 4 + 200)}",
                'data.partition={kind="iid"}',
                f'model={{kind="mlp",hidden={[self.width] * self.layers}}}',
                f"federation={{clients={self.clients},rounds={self.rounds}}}",
                f'training={{algorithm="{algorithm}",epochs={max(1, self.epochs)},lr=0.05,'
                f"batch_size={8 if self.epochs else self.each},records_per_client={self.each}}}",
                "attacker.watch={rounds=[1],clients=1}",
            ],
        )


@dataclass(frozen=True)
class Read:
    """What was read in one round."""

    right: int
    """Records read to every digit."""
    false: int
    """Claims that are nobody's record: a category wrong, or a number by more than the judge's tolerance."""
    near: int
    """Records of which every field is read within the judge's tolerance."""
    owned: int
    """Right records with the right client, where clients are told."""
    of: int
    """Records that there were to read."""
    seconds: float
    """CPU seconds of crafting and reading."""


def main() -> None:
    """Print a row a federation."""
    torch.set_num_threads(1)
    seeds = SEEDS[:2] if "--quick" in sys.argv else SEEDS
    local = "--local-steps" in sys.argv
    print("one client, its update is seen")
    for table in ("hospital", "bank"):
        for width, each in ((512, 64), (512, 256), (512, 1000), (100, 64), (100, 320)) if not local else ():
            row("grid", Case(table, width, 1, each), seeds)
        for each in (64, 256, 1280):
            row("grid", Case(table, 512, 1, each, epochs=5), seeds)
    print("20 clients of 64 records, their sum is seen")
    for table in ("hospital", "bank"):
        for how in ("masking", "secagg-plus") if not local else ():
            row("grid", Case(table, 512, 20, 64, sum=how), seeds)  # type: ignore[arg-type]
            row("blocks", Case(table, 512, 20, 64, sum=how), seeds)  # type: ignore[arg-type]
        row("grid", Case(table, 512, 20, 64, epochs=5, sum="masking"), seeds)
    if local:
        return
    print("one target behind the sum of 100 clients of 16")
    row("inconsistency", Case("hospital", 512, 100, 16, sum="masking"), seeds[:3])
    print("how far it goes: the sum of so many clients of 64")
    for clients in (50, 100, 200):
        row("grid", Case("hospital", 512, clients, 64, sum="masking"), seeds[:3])


def row(kind: str, case: Case, seeds: Sequence[int], **settings: Any) -> None:
    """Print what a deviation reads in a federation, over the seeds."""
    made = plugins.load("deviations", kind).model_validate({"kind": kind, **settings})
    assert isinstance(made, Deviation)
    found = [one_round(made, case, seed) for seed in seeds]
    right, of = sum(one.right for one in found), sum(one.of for one in found)
    least = min(one.right / one.of for one in found)
    how = f"FedAvg {case.epochs}" if case.epochs else "FedSGD"
    owned = f", {sum(one.owned for one in found)} with their client" if kind == "blocks" else ""
    near, false = sum(one.near for one in found), sum(one.false for one in found)
    seconds = np.median([one.seconds for one in found])
    print(
        f"  {kind}, {case.table}, {case.width} units, {case.clients} x {case.each}, {how}, {case.sum}: {right} of {of} "
        f"to every digit ({100 * right / of:.1f} %, least {100 * least:.1f} %), {near} within tolerance, false {false}"
        f"{owned}; {seconds:.2f} CPU s",
        flush=True,
    )


def one_round(deviation: Deviation, case: Case, seed: int) -> Read:
    """Craft, train, sum up and read."""
    scenario = case.scenario(seed)
    people = population_of(scenario)
    schema, cohort = people.table.schema, tuple(range(case.clients))
    knows = scenario.knowledge(schema, adaptive=True, records=case.each)
    base = {k: v.clone() for k, v in state(build(scenario.model, schema.shape, schema.outputs, seed)).items()}
    begun = time.process_time()
    sent: dict[int, Weights] = {}
    for client in cohort:
        if client and type(deviation).alike:
            sent[client] = sent[0]
            continue
        turn = Turn(client, 1, cohort, cohort[:1])
        sent[client] = deviation.craft(base, knows, turn, stream(seed, "crafting"))
    crafting = time.process_time() - begun
    updates = [trained(scenario, people, client, sent[client]) for client in cohort]
    count = sum(len(people.shares[client]) for client in cohort)
    received = _summed(updates, case.sum, stream(seed, "rounding"))
    different = {} if type(deviation).alike else sent
    last = Exchange(1, base if different else sent[0], received, count, different)
    begun = time.process_time()
    claim = deviation.claim(Observation(cohort, (last,)), knows, stream(seed, "reading"), lambda _: None)
    seconds = crafting + time.process_time() - begun
    target = cohort[:1] if deviation.kind == "inconsistency" else cohort
    return counted(claim, people, target, seconds)


def trained(scenario: Scenario, people: Population, client: int, sent: Weights) -> Mapping[str, Tensor]:
    """A client's update of its first round."""
    schema, share, training = people.table.schema, people.shares[client], scenario.training.settings
    network = load(scenario.model, schema.shape, schema.outputs, {name: t.clone() for name, t in sent.items()})
    batches = local_batches(training, len(share), "shuffle", scenario.seed, client, 1)
    rng = stream(scenario.seed, "training", client, 1)
    job = Job(network, people.inputs[share], people.labels[share], batches, training, rng)
    update: Mapping[str, Tensor] = roles.load("clients", "training.plain_training").plain_training(job)
    return update


def _summed(updates: Sequence[Mapping[str, Tensor]], how: Sum, rng: np.random.Generator) -> dict[str, Tensor]:
    """The mean of updates of equal weight, as far as a secure sum keeps it."""
    count = len(updates)
    if how == "masking":
        rings = [ring.to_ring(update, 1.0) for update in updates]
        return ring.from_ring({name: sum(one[name] for one in rings) for name in rings[0]}, float(count))  # type: ignore[misc]
    if how == "secagg-plus":
        np.random.seed(int(rng.integers(2**31)))  # noqa: NPY002 - Flower's quantization draws from it
        names = list(updates[0])
        whole = [quantize([update[n].numpy() for n in names], 8.0, 2**22) for update in updates]
        total = [np.sum([one[i] for one in whole], 0) for i in range(len(names))]
        mean = dequantize([one / count for one in total], 8.0, 2**22)
        return {name: torch.from_numpy(np.asarray(one)).float() for name, one in zip(names, mean, strict=True)}
    return {name: torch.stack([u[name].double() for u in updates]).mean(0).float() for name in updates[0]}


def counted(claim: Claim, people: Population, clients: Sequence[int], seconds: float) -> Read:
    """A claim held against the records of some clients."""
    truth = torch.cat([people.inputs[people.shares[client]] for client in clients]).double()
    holders = torch.cat([torch.full((len(people.shares[client]),), client) for client in clients])
    if not len(claim.records):
        return Read(0, 0, 0, 0, len(truth), seconds)
    off = torch.cdist(claim.records.double(), truth, p=torch.inf)
    right = off.amin(0) <= DIGITS
    owned = 0
    if claim.owners is not None:
        owned = int((claim.owners[off.argmin(0)] == holders)[right].sum())
    near, false = int((off.amin(0) <= NEAR).sum()), int((off.amin(1) > NEAR).sum())
    return Read(int(right.sum()), false, near, owned, len(truth), seconds)
