from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge, Observation, Sample
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema
from server.attacks.generative_prior import GenerativePrior
from server.attacks.inference.gan_class import GanClass

SCHEMA = Schema(
    columns=(
        *(Continuous(name=f"x{i}", mean=0, std=1, low=-4, high=4, mode=0) for i in range(4)),
        Categorical(name="kind", values=("a", "b", "c"), frequencies=(0.4, 0.3, 0.3)),
        Categorical(name="twin", values=("a", "b", "c"), frequencies=(0.4, 0.3, 0.3)),
    ),
    label="ill",
    classes=("no", "yes"),
)
MODEL = Mlp(hidden=(64,))
KNOWS = Knowledge(MODEL, "cross-entropy", SCHEMA, "fedsgd", 0.1, 8, 1, 0.0, 0.0)


def _people(n, seed):
    """Numbers lean to the class, kind follows the first number, and twin is kind again."""
    rng = np.random.default_rng(seed)
    records, labels = SCHEMA.draw(n, rng), torch.from_numpy(rng.integers(0, 2, n))
    records[:, :4] = 0.5 * records[:, :4] + 1.2 * (labels[:, None] - 0.5)
    kind = torch.bucketize(records[:, 0].contiguous(), torch.tensor([-0.4, 0.4]))
    records[:, 4:7] = records[:, 7:10] = torch.eye(3)[kind]
    return Sample(records, labels)


def _quiet(_):
    pass


def _federation(rounds=3):
    """A client's training over some rounds."""
    people, network, exchanges = _people(200, 0), build(MODEL, SCHEMA.shape, 2, seed=1), []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3)
    for round_ in range(1, rounds + 1):
        sent = {name: p.detach().clone() for name, p in network.named_parameters()}
        for _ in range(50):
            optimizer.zero_grad()
            cross_entropy(network(people.records), people.labels).backward()
            optimizer.step()
        received = {name: p.detach() - sent[name] for name, p in network.named_parameters()}
        exchanges.append(Exchange(round_, sent, received, 200))
    return people, Observation((0,), tuple(exchanges)), network


@pytest.mark.slow
def test_samples_of_a_class_are_like_it():
    people, seen, network = _federation()
    claim = GanClass(samples=40, iterations=600).run(seen, KNOWS, np.random.default_rng(0), _quiet)
    assert claim.records.shape == (80, SCHEMA.width)
    assert torch.equal(claim.records[:, 4:7].sum(1), torch.ones(80))  # whole categories
    assert float((network(claim.records).argmax(1) == claim.labels).float().mean()) > 0.8
    means = [claim.records[claim.labels == c][:, :4].mean() for c in (0, 1)]
    true = [people.records[people.labels == c][:, :4].mean() for c in (0, 1)]
    assert means[0] < -0.2
    assert means[1] > 0.2
    assert true[0] < 0 < true[1]


def test_training_ends_at_its_budget():
    _, seen, _ = _federation()
    claim = GanClass(iterations=1_000_000, seconds=0.2).run(seen, KNOWS, np.random.default_rng(0), _quiet)
    assert "steps against 3 rounds' models" in claim.notes[0]


def _update(people, noise=0.0):
    network = build(MODEL, SCHEMA.shape, 2, seed=1)
    names, weights = zip(*network.named_parameters(), strict=True)
    slopes = torch.autograd.grad(cross_entropy(network(people.records), people.labels), weights)
    generator = torch.Generator().manual_seed(0)
    received = {
        n: -0.1 * (g + noise * g.norm() / g.numel() ** 0.5 * torch.randn(g.shape, generator=generator))
        for n, g in zip(names, slopes, strict=True)
    }
    sent = {n: p.detach() for n, p in zip(names, weights, strict=True)}
    return Observation((0,), (Exchange(1, sent, received, len(people)),))


@pytest.mark.slow
def test_a_record_is_found_among_those_that_the_generator_can_make():
    knows, right, guessed = replace(KNOWS, auxiliary=_people(400, 5)), [], []
    for seed in range(2):
        people = _people(1, 10 + seed)
        attack = GenerativePrior(training=800, restarts=6, iterations=200)
        claim = attack.run(_update(people), knows, np.random.default_rng(seed), _quiet)
        assert torch.equal(claim.labels, people.labels)
        right.append(float((claim.records - people.records).abs().sum()))
        guessed.append(float((SCHEMA.guess(1) - people.records).abs().sum()))
    assert np.mean(right) < 0.6 * np.mean(guessed)


def test_what_is_missing_is_named():
    people, seen, _ = _federation(1)
    assert "auxiliary" in GenerativePrior().run(_update(people), KNOWS, np.random.default_rng(0), _quiet).notes[0]
    withheld = GanClass().run(seen, replace(KNOWS, schema=None), np.random.default_rng(0), _quiet)
    assert "schema is withheld" in withheld.notes[0]
    masked = replace(seen.last, received={"ring": torch.zeros(2)})
    assert "masked" in GanClass().run(Observation((0,), (masked,)), KNOWS, np.random.default_rng(0), _quiet).notes[0]


def test_the_same_seed_draws_the_same_samples():
    _, seen, _ = _federation()
    knows, attack = replace(KNOWS, auxiliary=_people(100, 5)), GanClass(samples=5, iterations=60)
    torch.manual_seed(1)
    first = attack.run(seen, knows, np.random.default_rng(0), _quiet)
    torch.manual_seed(2)  # the global generator is none of its sources
    assert torch.equal(first.records, attack.run(seen, knows, np.random.default_rng(0), _quiet).records)
