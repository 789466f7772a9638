"""What options say of an app's training: losses, optimizers, its own function; what does not fit is one line."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedinv.errors import RequestError
from fedinv.task.foreign.training.training import fit, read_training

CODE = """
import torch
from torch import nn

def loss(outputs, targets):
    return ((outputs.softmax(1) - nn.functional.one_hot(targets, 3)) ** 2).mean()

def each(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")

def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.5, weight_decay=0.01)

def no_optimizer(parameters):
    return 3

def train(net, trainloader, epochs, lr, device):
    net.to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for batch in trainloader:
            images, labels = batch["img"].to(device), batch["label"].to(device)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()

def tuples(model, loader, num_epochs=2):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(num_epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x).squeeze(1), y).backward()
            optimizer.step()

def wrong(net, loader, criterion, temperature):
    pass

def alone(net):
    pass

def broken(net, loader):
    raise KeyError("a cell of somebody's data")

number = 3
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "trainapp.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("trainapp", None)


def net(outputs=3):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs))


EXAMPLE = torch.linspace(-1, 1, 20).reshape(5, 4)


@pytest.mark.parametrize(
    ("loss", "outputs", "form", "numbers", "chances"),
    [
        (None, 3, "classes", False, True),
        (None, 1, "column", False, True),
        ("cross-entropy:class_weights=[1,2,3],label_smoothing=0.1", 3, "classes", False, False),
        ("cross-entropy:class_weights=[1,2,3]", 3, "classes", False, True),
        ("mse", 1, "column", True, False),
        (nn.MSELoss, 1, "column", True, False),
        ("trainapp:loss", 3, "classes", None, False),
        (lambda outputs, targets: functional.mse_loss(outputs, targets), 3, "one-hot", None, False),
        (lambda outputs, targets: functional.mse_loss(outputs[:, 0], targets), 1, "flat", None, False),
    ],
)
def test_a_loss_is_read_and_the_form_of_its_targets_found(project, loss, outputs, form, numbers, chances):
    how = fit(read_training(loss=loss, project=project), net(outputs), EXAMPLE)
    assert (how.form, how.loss.numbers, how.loss.chances, how.any_length) == (form, numbers, chances, True)


def test_the_usual_loss_of_a_chance_is_on_chances():
    assert fit(read_training(), nn.Sequential(net(1), nn.Sigmoid()), EXAMPLE).loss.name == "bce"
    unlucky = net(1)  # whose logits on the example lie between 0 and 1
    nn.init.constant_(unlucky[2].weight, 1e-3)
    nn.init.constant_(unlucky[2].bias, 0.5)
    assert fit(read_training(), unlucky, EXAMPLE).loss.name == "bce-with-logits"


@pytest.mark.parametrize("given", ["sgd:lr=0.2,momentum=0.5,weight_decay=0.01", "trainapp:optimizer"])
def test_an_optimizer_is_what_its_steps_are_made_of(project, given):
    how = fit(read_training(optimizer=given, extras="epochs=3,batch=2", project=project), net(), EXAMPLE)
    assert (how.lr, how.steps.number("momentum"), how.steps.count, how.steps.linear) == (0.2, 0.5, 3, True)
    assert (how.single(2), how.training.batch, how.training.epochs) == (False, 2, 3)
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.2, momentum=0.5, weight_decay=0.01)
    for _ in range(3 * 3):  # five records by two, three times
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert how.shrunk(5) == pytest.approx(float(weight.detach()) - 1)


def test_an_app_s_own_training_is_watched(project):
    how = fit(read_training(train="trainapp:train", extras="epochs=2,lr=0.3", project=project), net(), EXAMPLE)
    assert (how.form, how.lr, how.steps.number("momentum"), how.steps.count) == ("classes", 0.3, 0.9, 2)
    assert how.steps.linear
    # its own learning rate under another name, passes by default, targets as numbers between 0 and 1
    how = fit(read_training(train="trainapp:tuples", project=project), net(1), EXAMPLE)
    assert (how.form, how.steps.kind, how.steps.count, how.steps.linear) == ("flat", "AdamW", 2, False)


def test_a_training_goes_through_the_batches_in_the_order_of_each_pass(project):
    how = fit(read_training(train="trainapp:train", extras={"epochs": 2, "lr": 0.3}, project=project), net(), EXAMPLE)
    torch.manual_seed(0)
    first = net()
    second = net()
    second.load_state_dict(first.state_dict())
    targets, passes = torch.tensor([0, 1, 2, 0, 1]), [[[0, 1], [2, 3, 4]], [[4, 3], [2, 1, 0]]]
    how.train(first, EXAMPLE, targets, passes)
    optimizer = torch.optim.SGD(second.parameters(), lr=0.3, momentum=0.9)
    for rows in (rows for order in passes for rows in order):
        optimizer.zero_grad()
        functional.cross_entropy(second(EXAMPLE[rows]), targets[rows]).backward()
        optimizer.step()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "cross-entropi"}, r"--loss: unknown loss 'cross-entropi' \(did you mean 'cross-entropy'\?\)"),
        ({"loss": "cross-entropy:class_weight=[1]"}, "has no key 'class_weight' .did you mean 'class_weights'"),
        ({"loss": "cross-entropy:class_weights=heavy"}, "the values of its keys are no numbers"),
        ({"loss": "trainapp:lost"}, "--loss: trainapp has no 'lost' .did you mean 'loss'"),
        ({"loss": "trainap:loss"}, "--loss: trainap cannot be imported: there is no module 'trainap'"),
        ({"loss": "trainapp:number"}, "--loss: trainapp:number is a int, name a function of outputs and targets"),
        ({"loss": "trainapp:each"}, r"--loss: trainapp:each gives \(5,\), not the mean"),
        ({"loss": "cross-entropy:class_weights=[1,2]"}, r"--loss: cross-entropy: does not take the .* shape \(5, 3\)"),
        ({"loss": "mse"}, "--loss: mse: the network has 3 outputs, and numbers are read of one alone"),
        ({"optimizer": "sdg:lr=1"}, "--optimizer: sdg cannot be imported"),
        ({"optimizer": "sdg"}, r"unknown optimizer 'sdg' \(did you mean 'sgd'\?\)"),
        ({"optimizer": "sgd"}, "sgd needs its learning rate, write sgd:lr=0.1"),
        ({"optimizer": "sgd:lr=0.1,momentun=0.9"}, "sgd has no key 'momentun' .did you mean 'momentum'"),
        ({"optimizer": "sgd:lr=fast"}, "--optimizer: lr is 'fast', write a number"),
        ({"optimizer": "sgd:0.1"}, "--optimizer: '0.1' is no setting, write key=value"),
        ({"optimizer": "trainapp:no_optimizer"}, "gives a int, not a torch optimizer"),
        ({"train": "trainapp:wrong"}, "--train: trainapp:wrong needs criterion, temperature beside"),
        ({"train": "trainapp:alone"}, "has the parameters net, and is called with a network and a loader first"),
        ({"train": "trainapp:number"}, "is a int, name a function of a network and a loader"),
        ({"train": "trainapp:train", "extras": "lr=0.1,epoch=1"}, "has no parameter 'epoch' .did you mean 'epochs'"),
        ({"train": "trainapp:train", "optimizer": "sgd:lr=1"}, "--optimizer: is not used beside --train"),
        ({"extras": "epochs=2"}, "--train-with: needs --train or --optimizer"),
        ({"optimizer": "sgd:lr=1", "extras": "rounds=2"}, "without --train there is no 'rounds'"),
        ({"optimizer": "sgd:lr=1", "extras": "epochs=0"}, "epochs is 0, must be a whole number, 1 or more"),
        ({"train": "trainapp:broken"}, "--train: trainapp:broken: does not take the network's outputs"),
    ],
)
def test_what_does_not_fit_is_one_line(project, options, said):
    with pytest.raises(RequestError, match=said) as caught:
        fit(read_training(**options, project=project), net(), EXAMPLE)
    assert "\n" not in str(caught.value)
