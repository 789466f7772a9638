import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from fedinv.attack import Knowledge
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
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
        (Knowledge(lr=0.1, algorithm="fedavg"), None),
        (Knowledge(algorithm="fedsgd"), None),
    ],
)
def test_step_length(knows, expected):
    assert step_length(knows, 20) == (None if expected is None else pytest.approx(expected))
