from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fedinv.attack import Exchange, Observation
from fedinv.data.batches import local_batches
from fedinv.deviation import Turn
from fedinv.federation.streams import stream
from fedinv.federation.training import Job
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import read
from fedinv.task.models import build, load, state


@dataclass(frozen=True)
class Played:
    """What a deviation sent and claimed, and the truth."""

    exchanges: tuple
    claim: object
    records: torch.Tensor
    labels: torch.Tensor
    schema: object

    def recovered(self):
        """Records recovered to every digit, and claims that are nobody's."""
        if not len(self.claim.records):
            return 0, 0
        off = torch.cdist(self.claim.records.double(), self.records.double(), p=torch.inf)
        return int((off.amin(0) < 1e-3).sum()), int((off.amin(1) > 1e-3).sum())

    def labels_right(self):
        off = torch.cdist(self.claim.records.double(), self.records.double(), p=torch.inf)
        return bool((self.claim.labels == self.labels[off.argmin(1)]).all())


@pytest.fixture(scope="session")
def play():
    """Rounds of a deviation against clients of the hospital, of whom the mean update is seen, by their own training."""
    from clients.training.plain_training import plain_training

    def played(deviations, each=32, rounds=1, clients=1, hidden=(256, 256), change=None, **training):
        table = {"algorithm": "fedsgd", "batch_size": each, "epochs": 1} | training
        settings = [f"training.{key}={value!r}".replace("'", '"') for key, value in table.items()]
        scenario = read(
            "hospital",
            [
                "data.records=400",
                "attacker.watch={rounds=[1],clients=1}",
                f"federation.clients={max(2, clients)}",
                f"training.records_per_client={each}",
                f'model={{kind="mlp",hidden={list(hidden)}}}',
                *settings,
            ],
        )
        people, cohort = population_of(scenario), tuple(range(clients))
        schema = people.schema
        model = state(build(scenario.model, schema.shape, schema.outputs, 0))
        knows = scenario.knowledge(schema, adaptive=True, records=each)
        seen = ()
        for round_ in range(1, rounds + 1):
            sent = {name: tensor.clone() for name, tensor in model.items()}
            for one in deviations:
                turn = Turn(0, round_, cohort, (0,), seen if one.looks_back else ())
                sent = one.craft(sent, knows, turn, np.random.default_rng(round_))
            updates = []
            for client in cohort:
                share = people.shares[client]
                network = load(scenario.model, schema.shape, schema.outputs, {n: t.clone() for n, t in sent.items()})
                batches = local_batches(scenario.training.settings, len(share), "shuffle", 0, client, round_)
                rng = stream(0, "training", client, round_)
                job = Job(network, people.inputs[share], people.labels[share], batches, scenario.training.settings, rng)
                updates.append(plain_training(job))
            mean = {name: torch.stack([one[name] for one in updates]).mean(0) for name in sent}
            received = mean if change is None else change(mean)
            seen = (*seen, Exchange(round_, sent, received, each * clients))
        rows = np.concatenate([people.shares[client] for client in cohort])
        claim = deviations[-1].claim(Observation(cohort, seen), knows, np.random.default_rng(0), lambda share: None)
        return Played(seen, claim, people.inputs[rows], people.labels[rows], schema)

    return played
