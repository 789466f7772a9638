"""The clients of a round, trained in one stacked tensor where the model and the defenses allow it."""

from collections.abc import Sequence

import torch
from flwr.app import ArrayRecord

from fedinv.defense import Defense
from fedinv.federation import wire
from fedinv.federation.training import Job, Update
from fedinv.scenario.scenario import Scenario

from . import stacked
from .job import network, population_of, stacked_jobs


def why_alone(scenario: Scenario) -> str | None:
    """Return why a scenario's clients must be trained one by one, as a clause; None where they can be stacked."""
    if scenario.audit.plant != "nothing":
        return "an audit plants canaries"
    if not scenario.model.perceptron:
        return f"the model {scenario.model.kind!r} is no perceptron"
    changes = 0
    for defense in scenario.defenses:
        kind = type(defense)
        if kind.augment is not Defense.augment:
            return f"{defense.kind!r} changes each batch"
        masked = kind.masks is not Defense.masks
        if kind.wrap_network is not Defense.wrap_network and not masked:
            return f"{defense.kind!r} changes the network"
        clipped = kind.clipping is not Defense.clipping
        if kind.wrap_training is not Defense.wrap_training and not clipped:
            return f"{defense.kind!r} changes the training"
        changes += masked + clipped
    return "several defenses change the training" if changes > 1 else None


class Cohort:
    """Trains the clients of a round in chunks: a chunk is trained when the first of its clients needs its update.

    For engines that run all clients in one process. It holds the updates that were trained and not yet fetched.
    """

    def __init__(self, scenario: Scenario, device: torch.device) -> None:
        self.why_alone = why_alone(scenario)
        self._scenario, self._people, self._device = scenario, population_of(scenario), device
        self._sent: list[bytes] = []
        self._round = 0
        self._jobs: dict[int, list[tuple[int, Job]]] = {}
        self._updates: dict[int, Update] = {}

    def update(self, client: int, round_: int, cohort: Sequence[int], arrays: ArrayRecord) -> Update | None:
        """Return a client's update of a round, and forget it; None where the client must be trained on its own."""
        if self.why_alone is not None:
            return None
        sent = [array.data for array in arrays.values()]
        same = len(sent) == len(self._sent) and all(a is b for a, b in zip(sent, self._sent, strict=True))
        if not same and self._round == round_:
            return None  # a server that sends clients different weights
        if not same or self._round != round_:
            self._begin(round_, cohort, arrays)
            self._sent, self._round = sent, round_
        if client not in self._updates:
            chunk = self._jobs.get(client)
            if chunk is None:
                return None  # fetched already, or not in this round
            trained = stacked.train([job for _, job in chunk], self._device)
            self._updates |= {one: update for (one, _), update in zip(chunk, trained, strict=True)}
        self._jobs.pop(client, None)
        return self._updates.pop(client)

    def _begin(self, round_: int, cohort: Sequence[int], arrays: ArrayRecord) -> None:
        received = network(self._scenario, self._people, wire.unpack(arrays))
        jobs = list(zip(cohort, stacked_jobs(self._scenario, self._people, cohort, round_, received), strict=True))
        self._updates, self._jobs = {}, {}
        for chunk in stacked.chunks([job for _, job in jobs], self._device):
            members = [jobs[i] for i in chunk]
            self._jobs |= {client: members for client, _ in members}
