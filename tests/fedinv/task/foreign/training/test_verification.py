"""Claims are verified by repeating the training: the truth passes with its labels, a wrong or missing record fails."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedinv.task.foreign.training.entry import entry
from fedinv.task.foreign.training.training import fit, read_training
from fedinv.task.foreign.training.verification import BOUND, Observed, repeated


def net(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))


def own_loss(outputs, targets):
    likely = outputs.softmax(1).gather(1, targets[:, None])[:, 0]
    return -((1 - likely) ** 2 * likely.log()).mean()


def observed(network, loss, x, y, orders=None, **settings):
    """The update of SGD on these batches, all records where none are given."""
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), **settings)
    for rows in orders or [list(range(len(x)))]:
        optimizer.zero_grad()
        loss(network(x[rows]), y[rows]).backward()
        optimizer.step()
    update = {name: tensor - sent[name] for name, tensor in network.state_dict().items()}
    network.load_state_dict(sent)
    return Observed(sent, update, update)


def verify(network, seen, claimed, **options):
    how = fit(read_training(**options), network, torch.randn(4, 6))
    return repeated(entry(network, torch.randn(4, 6), None, list(seen.sent)), how, seen, claimed)


def batch(records=8, classes=3):
    torch.manual_seed(1)
    return torch.randn(records, 6), torch.randint(0, classes, (records,))


def matched(found, x, y):
    """The labels of the records that were found, in the order of the true ones."""
    places = torch.cdist(found.records, x).argmin(1)
    return torch.equal(found.labels.float(), y.float()[places])


@pytest.mark.parametrize(
    ("loss", "option"),
    [
        (functional.cross_entropy, None),
        (nn.CrossEntropyLoss(torch.tensor([1.0, 4.0, 0.5])), "cross-entropy:class_weights=[1,4,0.5]"),
        (nn.CrossEntropyLoss(label_smoothing=0.2), "cross-entropy:label_smoothing=0.2"),
        (own_loss, own_loss),
    ],
)
def test_the_truth_is_verified_with_its_labels_and_nothing_else(loss, option):
    network, (x, y) = net(), batch()
    seen = observed(network, loss, x, y, lr=0.1)
    found = verify(network, seen, x, loss=option)
    assert found.whole
    assert len(found.records) == 8
    assert found.mismatch < 1e-4
    assert matched(found, x, y)
    wrong = torch.cat([x[:7], torch.randn(1, 6)])
    for claimed in (x[:7], wrong):
        assert verify(network, seen, claimed, loss=option).mismatch > 3 * BOUND
        assert verify(network, seen, claimed, loss=option).verified == 0
    # a record too many is left out, not verified
    more = verify(network, seen, torch.cat([x, torch.randn(1, 6)]), loss=option)
    assert (more.verified, float(torch.cdist(more.records[more.good], x).amin(1).max())) == (8, 0.0)


def test_a_record_that_is_there_twice_counts_twice():
    network, (x, y) = net(), batch(5)
    seen = observed(network, functional.cross_entropy, x[[0, 1, 2, 3, 4, 0]], y[[0, 1, 2, 3, 4, 0]], lr=0.1)
    found = verify(network, seen, x)
    assert (found.whole, len(found.records)) == (True, 6)
    assert int((torch.cdist(found.records, x).argmin(1) == 0).sum()) == 2


def test_numbers_are_solved_for_and_need_the_learning_rate():
    network, (x, _) = net(1), batch()
    y = torch.randn(8, 1)
    for loss, option in ((functional.mse_loss, "mse"), (functional.huber_loss, nn.HuberLoss())):
        seen = observed(network, loss, x, y, lr=0.1, momentum=0.9, nesterov=True)
        found = verify(network, seen, x, loss=option, optimizer="sgd:lr=0.1,momentum=0.9,nesterov=true")
        if option == "mse":
            assert found.whole
            places = torch.cdist(found.records, x).argmin(1)
            assert float((found.labels - y[places, 0]).abs().max()) < 1e-3
            unknown = verify(network, seen, x, loss=option)
            assert (unknown.whole, unknown.labels) == (True, None)
            assert verify(network, seen, x[:7], loss=option).verified == 0


@pytest.mark.parametrize("records", [4, 6])
def test_several_steps_are_repeated_in_every_order_where_there_are_few(records):
    network, (x, y) = net(), batch(records)
    halves = [list(range(0, records, 2)), list(range(1, records, 2))]
    seen = observed(network, functional.cross_entropy, x, y, halves, lr=0.1, momentum=0.9)
    options = {"optimizer": "sgd:lr=0.1,momentum=0.9", "extras": {"batch": records // 2}}
    found = verify(network, seen, x, **options)
    assert (found.whole, found.all_tried, matched(found, x, y)) == (True, True, True)
    assert found.mismatch < 1e-4
    assert verify(network, seen, x[1:], **options).verified == 0


def test_of_too_many_orders_nothing_is_verified_and_the_note_says_so():
    network, (x, y) = net(), batch(12)
    orders = [rows.tolist() for _ in range(2) for rows in torch.randperm(12).split(4)]
    seen = observed(network, functional.cross_entropy, x, y, orders, lr=0.05)
    found = verify(network, seen, x, optimizer="sgd:lr=0.05", extras={"batch": 4, "epochs": 2})
    assert (found.verified, found.all_tried, found.reordered) == (0, False, True)
    assert "in one of more orders of local batches than are tried" in found.note


def test_a_training_that_fails_or_depends_on_chance_verifies_nothing():
    network, (x, y) = net(), batch()
    seen = observed(network, functional.cross_entropy, x, y, lr=0.1)

    def train(model, loader):
        for inputs, targets in loader:
            if len(inputs) == 8:
                raise KeyError("a cell of somebody's data")
            functional.cross_entropy(model(inputs), targets).backward()

    found = verify(network, seen, x, train=train, loss="cross-entropy")
    assert (found.verified, found.note) == (0, "the training failed on the records: KeyError")


def test_the_network_is_left_as_it_was():
    network, (x, y) = net(), batch()
    seen = observed(network, functional.cross_entropy, x, y, lr=0.1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    verify(network, seen, x)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
