from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge, Observation, Question, Sample
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema
from server.inference.attribute import attribute

VALUES = ("a", "b", "c", "d")
SCHEMA = Schema(
    columns=(
        *(Continuous(name=f"x{i}", mean=0, std=1, low=-4, high=4, mode=0) for i in range(8)),
        Categorical(name="kind", values=VALUES, frequencies=(0.4, 0.3, 0.2, 0.1)),
    ),
    label="ill",
    classes=("no", "yes"),
)
MODEL = Mlp(hidden=(128, 32))
KNOWS = Knowledge(MODEL, "cross-entropy", SCHEMA, "fedsgd", 0.1, 12, 1, 0.0, 0.0)


def _case(column, noise=0.0, n=12, seed=0):
    """An update of n people, the question about them with a column taken out, and the column's true options."""
    rng = np.random.default_rng(seed)
    x, y = SCHEMA.draw(n, rng), torch.from_numpy(rng.integers(0, 2, n))
    network = build(MODEL, SCHEMA.shape, 2, seed=seed)
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    generator = torch.Generator().manual_seed(seed)
    names = [name for name, _ in network.named_parameters()]
    update = {
        name: -0.1 * (g + noise * torch.randn(g.shape, generator=generator))
        for name, g in zip(names, gradients, strict=True)
    }
    at = SCHEMA.slices[SCHEMA.names.index(column)]
    known = x.clone()
    known[:, at] = 0
    options = torch.eye(4) if column == "kind" else torch.linspace(-4, 4, 41)[:, None]
    sent = {name: p.detach() for name, p in network.named_parameters()}
    seen = Observation((0,), (Exchange(1, sent, update, n),))
    return seen, replace(KNOWS, question=Question(Sample(known, y), column, options)), x[:, at]


def _told(seen, knows, access="gradients"):
    return attribute(seen, knows, access, np.random.default_rng(0))


def test_the_update_gives_away_what_is_not_known_of_a_person():
    right = []
    for seed in range(3):
        seen, knows, truth = _case("kind", seed=seed)
        right.append((_told(seen, knows).scores.argmax(1) == truth.argmax(1)).float().mean())
    assert float(np.mean(right)) >= 0.9
    seen, knows, truth = _case("x0")
    told = knows.question.options[_told(seen, knows).scores.argmax(1)]
    assert float(((told - truth).abs() <= 0.319).float().mean()) >= 0.6


def test_behind_heavy_noise_the_commonest_value_is_told():
    seen, knows, _ = _case("kind", noise=10.0)
    assert float((_told(seen, knows).scores.argmax(1) == 0).float().mean()) >= 0.8


def test_the_step_length_need_not_be_known():
    seen, knows, truth = _case("kind")
    told = _told(seen, replace(knows, lr=None)).scores.argmax(1)
    assert float((told == truth.argmax(1)).float().mean()) >= 0.7


def test_confidences_tell_what_the_model_learned_by_heart():
    _, knows, truth = _case("kind", n=200)
    network = build(MODEL, SCHEMA.shape, 2, seed=0)
    people = knows.question.people
    records = people.records.clone()
    records[:, -4:] = truth
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    labels = truth[:, 0].long()  # the label is the value: a model that tells all of it
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(network(records), labels).backward()
        optimizer.step()
    trained = {name: p.detach() for name, p in network.named_parameters()}
    model = Observation((0,), (Exchange(5, trained, {}, len(labels)),))
    told = replace(knows, question=replace(knows.question, people=Sample(people.records, labels)))
    scores = _told(model, told, "confidences").scores
    assert float(((scores.argmax(1) == 0) == (labels == 1)).float().mean()) > 0.9


@pytest.mark.parametrize("withheld", ["model", "schema", "question"])
def test_what_is_withheld_is_named(withheld):
    seen, knows, _ = _case("kind")
    answer = _told(seen, replace(knows, **{withheld: None}))
    assert len(answer.scores) == 0
    assert "withheld" in answer.notes[0] or "nobody" in answer.notes[0]


def test_a_masked_update_is_no_update():
    seen, knows, _ = _case("kind")
    masked = replace(seen.last, received={"ring": torch.zeros(3)})
    assert "masked" in _told(replace(seen, exchanges=(masked,)), knows).notes[0]
