import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from fedinv.attack import Knowledge
from fedinv.task.loss import loss
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import Adam, Sgd
from fedinv.task.optimizers.schedules import Step
from server.inversion.labels import as_labels, label_counts, label_hypotheses
from server.inversion.local_training import step_length


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 5))
def test_counts_are_exact_on_batches_of_an_untrained_network(seed, n, classes):
    generator = torch.Generator().manual_seed(seed)
    network = build(Mlp(hidden=(64, 64)), (12,), classes, seed)
    x, y = torch.randn(n, 12, generator=generator), torch.randint(classes, (n,), generator=generator)
    loss = cross_entropy(network(x), y)
    update = -0.1 * torch.autograd.grad(loss, list(network.parameters()))[-1]
    others = torch.randn(2000, 12, generator=generator)
    found = label_hypotheses(update, network(others).softmax(-1).detach(), n, 0.1)
    assert any(torch.equal(counts, y.bincount(minlength=classes)) for counts in found)
    exact = label_counts(-update / 0.1, network(x).softmax(-1).detach().mean(0), n)
    assert torch.equal(exact, y.bincount(minlength=classes))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_counts_behind_class_weights_are_exact_too(seed, n):
    generator = torch.Generator().manual_seed(seed)
    network, weights = build(Mlp(hidden=(64, 64)), (12,), 3, seed), torch.tensor([1.0, 0.4, 3.0])
    x, y = torch.randn(n, 12, generator=generator), torch.randint(3, (n,), generator=generator)
    value = loss(network(x), y, class_weights=weights)
    gradient = torch.autograd.grad(value, list(network.parameters()))[-1]
    # the mean softmax by which an attacker must guess is that of records of the same weights
    weighted = network(x).softmax(-1).detach() * weights[y][:, None]
    chances = weighted.sum(0) / weights[y].sum()
    assert torch.equal(label_counts(gradient, chances, n, weights), y.bincount(minlength=3))


@settings(max_examples=100)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=6), st.integers(1, 64))
def test_counts_always_add_up(gradient, n):
    chances = torch.full((len(gradient),), 1 / len(gradient))
    counts = label_counts(torch.tensor(gradient), chances, n)
    assert int(counts.sum()) == n
    assert int(counts.min()) >= 0
    assert len(as_labels(counts)) == n


def test_a_withheld_step_length_leaves_several_counts_the_right_one_among_them():
    update = torch.tensor([0.03, -0.03])  # of 8 records 2 more in class 0 than the network expects, lr unknown
    found = label_hypotheses(update, torch.full((10, 2), 0.5), 8, None)
    assert [6, 2] in [counts.tolist() for counts in found]
    assert len(found) > 1


@pytest.mark.parametrize(
    ("knows", "expected"),
    [
        (Knowledge(lr=0.1, algorithm="fedsgd", epochs=3, batch_size=8), 0.1),
        (Knowledge(lr=0.1, algorithm="fedavg", epochs=2, batch_size=8), 0.1 * 2 * 3),
        (Knowledge(lr=0.1, algorithm="fedavg", epochs=1, batch_size=10, momentum=0.5), 0.1 * (1.5 + 1)),
        (Knowledge(lr=0.1, algorithm="fedsgd", momentum=0.5, optimizer=Sgd(nesterov=True)), 0.1 * 1.5),
        (Knowledge(lr=0.1, algorithm="fedavg", epochs=1, batch_size=10, schedule=Step(every=1)), 0.11),
        (Knowledge(lr=0.1, algorithm="fedavg"), None),
        (Knowledge(algorithm="fedsgd"), None),
    ],
)
def test_step_length(knows, expected):
    assert step_length(knows, 20) == (None if expected is None else pytest.approx(expected))


def test_an_adaptive_optimizer_has_no_step_length():
    with pytest.raises(ValueError, match="scales each entry of a step by itself"):
        step_length(Knowledge(lr=0.1, algorithm="fedsgd", optimizer=Adam()), 20)
