from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Knowledge
from fedinv.storage.observations import trained
from fedinv.task.columns import Categorical, Continuous, Image
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Logistic, Mlp
from fedinv.task.schema import Schema
from server.attacks.inference.model_inversion import ModelInversion
from server.inference.representatives import by_confidence, by_gradient, marginals

TABLE = Schema(
    columns=(
        *(Continuous(name=f"x{i}", mean=0, std=1, low=-4, high=4, mode=0) for i in range(6)),
        Categorical(name="kind", values=("a", "b", "c"), frequencies=(0.4, 0.3, 0.3)),
    ),
    label="group",
    classes=("0", "1", "2"),
)
PICTURES = Schema(
    columns=(Image(name="picture", channels=1, down=8, across=8, mean=0.5, std=0.25, low=0, high=1),),
    label="shape",
    classes=("0", "1", "2", "3"),
)
MODEL = Mlp(hidden=(32,))
CENTERS = torch.tensor([[1.5, 0, 0, -1, 0, 0], [0, 1.5, 0, 0, -1, 0], [0, 0, 1.5, 0, 0, -1]])


def _table():
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 3
    numbers = CENTERS[labels] + 0.5 * torch.randn(300, 6, generator=generator)
    return torch.cat([numbers, torch.eye(3)[labels]], 1), labels


def _pictures():
    generator = torch.Generator().manual_seed(1)
    shapes = torch.zeros(4, 8, 8)
    for i in range(4):
        shapes[i, 4 * (i // 2) : 4 * (i // 2) + 4, 4 * (i % 2) : 4 * (i % 2) + 4] = 1
    labels = torch.arange(200) % 4
    inputs = (2 * shapes - 1).flatten(1)[labels] + 0.3 * torch.randn(200, 64, generator=generator)
    return inputs.clamp(-2, 2), labels


def _seen(schema, data=None):
    """A model of a schema's records: trained on data, or fresh."""
    network = build(MODEL, schema.shape, schema.outputs, seed=3)
    if data is not None:
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            cross_entropy(network(data[0]), data[1]).backward()
            optimizer.step()
    return trained({name: t.detach() for name, t in state(network).items()}, 3, 2, 100)


def _run(schema, seen, knows=None, **keys):
    attack = ModelInversion(**{"iterations": 120, "restarts": 3, **keys})
    return attack.run(seen, knows or Knowledge(MODEL, schema=schema), np.random.default_rng(0), lambda _: None)


def _off(records, means):
    return float((records - means).square().mean())


def _alike(records, means):
    """Correlation of how the classes differ from their average."""
    apart = torch.stack([(x - x.mean(0)).flatten() for x in (records, means)])
    return float(torch.corrcoef(apart)[0, 1].nan_to_num())  # none where all classes are alike


@pytest.mark.parametrize("access", ["gradients", "confidences"])
@pytest.mark.parametrize(("schema", "data"), [(TABLE, _table()), (PICTURES, _pictures())], ids=["table", "images"])
def test_representatives_of_separable_classes_are_near_their_means(schema, data, access):
    keys = {"access": access, "questions": 5000, "lr": 0.1}
    claim, fresh = _run(schema, _seen(schema, data), **keys), _run(schema, _seen(schema), **keys)
    assert claim.labels.tolist() == list(range(schema.outputs))
    assert bool((claim.confidence > 0.5).all())
    means = torch.stack([data[0][data[1] == c].mean(0) for c in claim.labels])
    assert torch.cdist(claim.records, means).argmin(1).tolist() == list(range(schema.outputs))
    assert _off(claim.records, means) < 0.9 * _off(means.mean(0).expand_as(means), means)
    assert _alike(claim.records, means) > 0.75
    assert _alike(fresh.records, means) < 0.4


def test_of_categories_it_tells_shares_and_the_right_one_is_largest():
    shares = _run(TABLE, _seen(TABLE, _table())).records[:, 6:]
    assert shares.argmax(1).tolist() == [0, 1, 2]
    assert torch.allclose(shares.sum(1), torch.ones(3), atol=1e-5)


def test_raw_outputs_and_random_starts_do_as_well():
    data = _pictures()
    claim = _run(PICTURES, _seen(PICTURES, data), goal="output", start="random")
    assert bool((claim.confidence > 0.9).all())
    assert float(claim.records.abs().max()) <= 2.0


def test_the_confidence_is_the_models_own():
    data = _table()
    seen = _seen(TABLE, data)
    claim = _run(TABLE, seen)
    network = build(MODEL, TABLE.shape, 3, seed=0)
    network.load_state_dict(dict(seen.last.sent))
    said = network(claim.records).softmax(1).diag()
    assert torch.allclose(claim.confidence, said.detach(), atol=1e-6)


def test_it_is_pure_and_keeps_to_its_questions():
    seen = _seen(TABLE, _table())
    one, two = (_run(TABLE, seen, access="confidences", questions=1000) for _ in range(2))
    assert torch.equal(one.records, two.records)
    asked = int(one.notes[0].split()[2])
    assert 500 < asked <= 1000


@pytest.mark.parametrize(("gone", "why"), [("model", "architecture is withheld"), ("schema", "schema is withheld")])
def test_what_is_withheld_is_said(gone, why):
    knows = replace(Knowledge(MODEL, schema=TABLE), **{gone: None})
    claim = _run(TABLE, _seen(TABLE), knows)
    assert len(claim.records) == 0
    assert why in claim.notes[0]


def test_another_architecture_and_broken_weights_are_said():
    wrong = _run(TABLE, _seen(TABLE), Knowledge(Logistic(), schema=TABLE))
    assert "not of the architecture" in wrong.notes[0]
    broken = trained({n: t * torch.nan for n, t in _seen(TABLE).last.sent.items()}, 3, 2, 100)
    assert "not finite" in _run(TABLE, broken).notes[0]


def test_an_attribute_is_read_from_what_the_mode_says():
    assert ModelInversion().sees == "model"
    assert ModelInversion(mode="attribute").sees == "update"
    assert ModelInversion(mode="attribute", access="confidences").sees == "model"
    answer = _run(TABLE, _seen(TABLE), mode="attribute", access="confidences")
    assert len(answer.scores) == 0
    assert "nobody is known" in answer.notes[0]


def test_slopes_from_confidences_agree_with_the_gradient():
    network = build(Mlp(hidden=(32,), activation="tanh"), TABLE.shape, 3, seed=0).eval()
    inputs, labels = _table()[0][:4], _table()[1][:4]
    generator = torch.Generator().manual_seed(0)
    asked = by_confidence(lambda x: network(x).softmax(1).detach(), 4000, 0.05, None, generator)
    _, told = asked(inputs, labels)
    _, true = by_gradient(network, "loss")(inputs, labels)
    assert float(torch.cosine_similarity(told, true).min()) > 0.98


def test_the_marginals_slope_is_that_of_their_value():
    prior = marginals(TABLE, 0.7)
    inputs = (torch.rand(2, 1, 9, generator=torch.Generator().manual_seed(0)) + 0.1).requires_grad_(True)
    value, slope = prior(inputs)
    (true,) = torch.autograd.grad(value.sum(), inputs)
    assert torch.allclose(slope, true, atol=1e-5)
