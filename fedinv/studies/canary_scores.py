"""Scores by which an audit separates canaries that took part from those that did not."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedinv.attack import Observation
from fedinv.data.batches import local_batches
from fedinv.data.canaries import Planted, direction, plant, toss
from fedinv.defense import Defense
from fedinv.errors import RunError
from fedinv.judge.truth import population_of
from fedinv.privacy.lower_bounds import Scores
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, observations
from fedinv.storage.checkpoints import Progress
from fedinv.storage.run_folder import RunFolder
from fedinv.task.loss import loss
from fedinv.task.models import load

Coins = NDArray[np.bool_]
"""Whether each canary took part, bool (m,), as the coin tosses decided."""


def client_scores(scenario: Scenario, folder: RunFolder, defense: Defense) -> tuple[Scores, Scores, Coins]:
    """How far the models or updates moved along each canary client's direction, summed over all rounds.

    Returns the scores (m,) twice, as linear scores and as likelihoods, and the coins (m,).
    """
    clients = range(scenario.federation.clients)
    present = np.array([toss(scenario.seed, client) for client in clients])
    like = observations.read_sent(folder.observations, 1)
    ways = torch.stack([_flat(direction(like, scenario.seed, client)) for client in clients]).double()
    total = torch.zeros(len(ways), dtype=torch.float64)
    if defense.by_server or any(one.secure_aggregation for one in scenario.defenses):
        gram = ways @ ways.T
        for mean in _means(scenario, folder, defense):
            total += torch.linalg.solve(gram, ways @ mean) * len(ways)
    else:
        for seen in observations.read(folder.observations):
            if len(seen.clients) == 1:
                total[seen.clients[0]] += ways[seen.clients[0]] @ _flat(seen.last.received).double()
    scores = total.numpy()
    return scores, scores, present


def _means(scenario: Scenario, folder: RunFolder, defense: Defense) -> Iterator[Tensor]:
    """The mean that each round releases, float64 (parameters,).

    That of the sum, or, where the server adds the noise, the difference of successive models.
    """
    if not defense.by_server:
        for seen in observations.read(folder.observations):
            if len(seen.clients) > 1:
                yield _flat(seen.last.received).double()
        return
    rounds = scenario.federation.rounds
    models = [observations.read_sent(folder.observations, r) for r in range(1, rounds + 1)]
    models.append(files.read_tensors(folder.model(rounds))[0])
    for before, after in pairwise(models):
        yield _flat(after).double() - _flat(before).double()


def record_scores(scenario: Scenario, folder: RunFolder, defense: Defense) -> tuple[Scores, Scores, Coins]:
    """Scores of canary records (m,): their weight in their client's updates over the noise, and log likelihood ratios.

    The third array (m,) holds the coins. Where a malicious server makes numbers overflow, both scores are the number of
    rounds in which they did. Raises RunError where no update could be used, or where the defense does not say how it
    clips records' gradients.
    """
    people = population_of(scenario)
    by_client: dict[int, list[Observation]] = {}
    for seen in observations.read(folder.observations):
        if len(seen.clients) == 1:
            by_client.setdefault(seen.clients[0], []).append(seen)
    broken = files.read_model(Progress, folder.progress).left_out
    linear, likely, coins = list[Scores](), list[Scores](), list[Coins]()
    for client in range(scenario.federation.clients):
        inputs, labels = people.records(client)
        if scenario.server.overflow:
            sent = observations.read_sent(folder.observations, 1)
            planted = plant(inputs, labels, _network(scenario, sent), scenario.seed, client, True)
            silent = sum(one.client == client and "non-finite" in one.reason for one in broken)
            linear.append(np.array([float(silent)]))
            likely.append(linear[-1])
            coins.append(planted.present)
            continue
        weighted, weights, chances = np.zeros(1), np.zeros(1), np.zeros(1)
        met = by_client.get(client, [])
        for seen in met:
            planted = plant(inputs, labels, _network(scenario, seen.last.sent), scenario.seed, client)
            parts, variances = _parts(scenario, planted, seen, defense)
            weighted, weights = weighted + parts / variances, weights + 1 / variances
            chances = chances + _likelihood(scenario, len(inputs), parts, variances)
        if met:
            linear.append(weighted / np.sqrt(weights))
            likely.append(chances)
            coins.append(planted.present)
    if not linear:
        raise RunError("no update could be used, so that no canary could be scored")
    return np.concatenate(linear), np.concatenate(likely), np.concatenate(coins)


def _parts(scenario: Scenario, planted: Planted, seen: Observation, defense: Defense) -> tuple[Scores, Scores]:
    """Times that each canary was used in one update, estimated by least squares, (m,), and the variances (m,)."""
    training, client, held = scenario.local_training(seen.last.round), seen.clients[0], len(planted.labels)
    taken = scenario.participation(held)
    clipping = defense.clipping(taken)
    if clipping is None:
        raise RunError(f"{defense.kind} claims a guarantee for examples and does not say how it clips them: no audit")
    clip, noise = clipping.clip, clipping.noise_multiplier
    batches = local_batches(training, held, scenario.sampling, scenario.seed, client, seen.last.round)
    used = np.bincount(np.concatenate(batches), minlength=held).astype(np.float64)
    gradients = _clipped(_network(scenario, seen.last.sent), planted, clip).double()
    total = -_flat(seen.last.received).double() * (clipping.divisor / training.lr)
    # the auditor knows the contributions of all records but the canaries
    known = torch.from_numpy(np.where(np.isin(np.arange(held), planted.canaries), 0.0, used))
    ways = gradients[planted.canaries]
    least = 1e-4 * clip**2 * torch.eye(len(ways), dtype=torch.float64)
    inverse = torch.linalg.inv(ways @ ways.T + least)
    parts = inverse @ (ways @ (total - known @ gradients))
    variances = len(batches) * max(noise * clip, 1e-6) ** 2 * inverse.diagonal()
    return parts.numpy(), variances.numpy()


def _likelihood(scenario: Scenario, records: int, parts: Scores, variances: Scores) -> Scores:
    """Log likelihood ratio (m,): drawn by Poisson sampling at the scenario's rate against never drawn."""
    taken = scenario.participation(records)
    times = np.arange(taken.steps + 1)
    chances = binom.logpmf(times, taken.steps, taken.batch_size / taken.records)
    gain = (parts[:, None] * times - times**2 / 2) / variances[:, None]
    ratios: Scores = np.logaddexp.reduce(chances + gain, axis=1)
    return ratios


def _network(scenario: Scenario, weights: Mapping[str, Tensor]) -> nn.Sequential:
    schema = population_of(scenario).table.schema
    model = scenario.model.fitted(schema)
    return load(model, schema.shape, schema.outputs, {name: tensor.clone() for name, tensor in weights.items()})


def _clipped(network: nn.Sequential, planted: Planted, clip: float) -> Tensor:
    """Each record's clipped gradient at the network's weights, float32 (n, parameters)."""
    parameters = {name: tensor.detach() for name, tensor in network.named_parameters()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(network, values, (x[None],)), y[None])

    slopes = vmap(grad(one), in_dims=(None, 0, 0))(parameters, planted.inputs, planted.labels)
    flat = torch.cat([slope.flatten(1) for slope in slopes.values()], 1)
    cut: Tensor = flat * (clip / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    return cut


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])
