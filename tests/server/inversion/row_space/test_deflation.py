import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from server.inversion.row_space.attribution import attribute
from server.inversion.row_space.backward import pass_through
from server.inversion.row_space.deflation import measured_step, shares
from server.inversion.row_space.spans import span

LR = 0.1


def _case(n=6, classes=3, weights=None):
    generator = torch.Generator().manual_seed(0)
    network = build(Mlp(hidden=(40, 30)), (10,), classes, seed=1).double()
    records = torch.randn(n, 10, generator=generator, dtype=torch.float64)
    labels = torch.arange(n) % classes
    loss = cross_entropy(network(records), labels, weights)
    slopes = torch.autograd.grad(loss, list(network.parameters()))
    updates = [-LR * torch.cat([w, b[:, None]], 1) for w, b in zip(slopes[::2], slopes[1::2], strict=True)]
    return network, records, labels, tuple(updates)


def test_what_records_send_back_sums_to_the_gradient():
    network, records, labels, updates = _case()
    passed = pass_through(network, records)
    residual = passed.logits.softmax(1) - torch.nn.functional.one_hot(labels, 3)
    for i, update in enumerate(updates):
        ahead = torch.cat([passed.inputs[i], torch.ones(len(records), 1, dtype=torch.float64)], 1)
        assert torch.allclose(passed.slopes(i, residual).T @ ahead * -LR / len(records), update)


def test_shares_find_labels_and_counts_and_leave_the_rest():
    network, records, labels, updates = _case()
    spans = tuple(span(u, 6, 0.0, torch.Generator().manual_seed(0)) for u in updates[:2])
    share = shares(network, records, spans, LR / 6)
    assert torch.equal(share.labels, labels)
    assert share.counts.tolist() == [1] * 6
    for update, parts in zip(updates, share.parts, strict=True):
        assert torch.allclose(parts.sum(0), update, atol=1e-10)


def test_a_record_that_is_not_in_the_batch_has_no_share():
    network, records, _, updates = _case()
    spans = tuple(span(u, 6, 0.0, torch.Generator().manual_seed(0)) for u in updates[:2])
    assert shares(network, -records, spans, LR / 6).counts.tolist() == [0] * 6


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("known", [4, 6])
def test_the_length_of_a_step_is_measured_by_a_part_of_its_records(classes, known):
    network, records, _, updates = _case(classes=classes)
    spans = tuple(span(u, 6, 0.0, torch.Generator().manual_seed(0)) for u in updates[:2])
    assert measured_step(network, records[:known], spans) == pytest.approx(LR / 6)


def test_a_step_of_which_few_records_are_known_or_whose_classes_count_differently_has_no_length():
    network, records, _, updates = _case()
    spans = tuple(span(u, 6, 0.0, torch.Generator().manual_seed(0)) for u in updates[:2])
    assert measured_step(network, records[:3], spans) is None
    network, records, _, updates = _case(weights=torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64))
    spans = tuple(span(u, 6, 0.0, torch.Generator().manual_seed(0)) for u in updates[:2])
    assert measured_step(network, records, spans) is None


def test_labels_are_attributed_to_records_together():
    network, records, labels, updates = _case(n=20)
    found = attribute(network, records, updates)
    assert found is not None
    assert (found == labels).double().mean() >= 0.9
    assert attribute(network, records.repeat(100, 1), updates) is None
