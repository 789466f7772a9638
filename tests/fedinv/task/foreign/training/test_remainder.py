"""What known records leave of a step is the step of the missing ones, by which their labels are verified."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedinv.task.foreign.training.entry import entry
from fedinv.task.foreign.training.gradients import label_weights
from fedinv.task.foreign.training.remainder import remainder
from fedinv.task.foreign.training.training import fit, read_training
from fedinv.task.foreign.training.verification import Observed


@pytest.fixture(scope="module")
def step():
    """Records, labels, and what is left of one step on all of them by how many are missing and what is claimed."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    x, y = torch.randn(9, 6), torch.randint(0, 3, (9,))

    def update(rows):
        network.zero_grad()
        functional.cross_entropy(network(x[rows]), y[rows], reduction="sum").backward()
        return {name: -0.1 / len(x) * one.grad for name, one in network.named_parameters()}

    whole = update(list(range(9)))
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    how = fit(read_training(), network, x)
    start, seen = entry(network, x, None, list(sent)), Observed(sent, whole, whole)

    def left(records, labels, missing):
        return remainder(start, how, seen, records, labels, missing)

    return x, y, update, left


@pytest.mark.parametrize("missing", [1, 2])
def test_right_labels_leave_the_update_of_the_missing_records(step, missing):
    x, y, update, left = step
    found = left(x[missing:], y[missing:], missing)
    assert found.holds
    for name, tensor in update(list(range(missing))).items():
        assert torch.allclose(found.update[name], tensor, atol=1e-4 * float(tensor.abs().max()))


def test_a_wrong_label_is_put_right(step):
    x, y, _, left = step
    wrong = y[1:].clone()
    wrong[3] = (wrong[3] + 1) % 3
    found = left(x[1:], wrong, 1)
    assert found.holds
    assert torch.equal(found.labels, y[1:])


def test_a_record_that_was_not_there_verifies_no_label(step):
    x, y, _, left = step
    strange = x[1:].clone()
    strange[0] += 1
    assert not left(strange, y[1:], 1).holds


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_a_record_that_is_hardly_off_verifies_nothing(step, missing):
    x, y, _, left = step
    almost = x[missing:].clone()
    almost[0, ::2] += 0.006
    assert not left(almost, y[missing:], missing).holds


def test_more_missing_records_than_the_layers_have_ranks_verify_nothing(step):
    x, y, _, left = step
    assert left(x[8:], y[8:], 64) is None


@pytest.mark.parametrize("said", [True, False])
def test_class_weights_are_accounted_for(said):
    """By the loss that is named, and by the app's own training, which alone knows its loss."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))
    x, y, weights = torch.randn(9, 6), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2]), torch.tensor([1.0, 6.0, 0.5])

    def train(net, loader):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5, weight_decay=1e-3)
        for inputs, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(net(inputs), labels, weight=weights).backward()
            optimizer.step()

    loss = {"loss": "cross-entropy:class_weights=[1,6,0.5]", "optimizer": "sgd:lr=0.5,weight_decay=1e-3"}
    how = fit(read_training(**(loss if said else {"train": train})), network, x)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train(network, [(x, y)])
    update = {name: tensor.detach() - sent[name] for name, tensor in network.state_dict().items()}
    network.load_state_dict(sent)
    seen = Observed(sent, update, {name: one - how.shrunk(9) * sent[name] for name, one in update.items()})
    start = entry(network, x, None, list(sent))
    assert label_weights(start, how, sent, x).tolist() == pytest.approx([1, 6, 0.5], rel=1e-2)
    assert remainder(start, how, seen, x[2:], y[2:], 2).holds
    claimed = y[2:].clone()
    claimed[0] = (claimed[0] + 1) % 3
    found = remainder(start, how, seen, x[2:], claimed, 2)
    assert found.holds
    assert torch.equal(found.labels, y[2:])
