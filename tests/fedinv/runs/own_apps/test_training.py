"""Apps whose training is said: by loss and optimizer or by their own function, from Python and the command line."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app
from fedinv.errors import RequestError

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(14, 128), nn.Linear(128, 64), nn.Linear(64, outputs)

    def forward(self, x):
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))

def number():
    return Net(1)

def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 3.0, 0.5]), label_smoothing=0.1)

def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.02)

def train(net, trainloader, epochs, lr):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    for _ in range(epochs):
        for batch in trainloader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch["x"]), batch["y"]).backward()
            optimizer.step()

def adam(net, trainloader):
    optimizer = torch.optim.Adam(net.parameters())
    for x, y in trainloader:
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "trained.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("trained", None)
    yield tmp_path
    sys.modules.pop("trained", None)


def recorded(project, train, outputs=3, targets=None, records=10):
    """The recording of a client that trains its network by `train` (network, records, labels), and both of these."""
    import trained

    torch.manual_seed(0)
    net, x = trained.Net(outputs), torch.randn(records, 14)
    y = torch.randint(0, outputs, (records,)) if targets is None else targets(records)
    sent = {name: tensor.clone().numpy() for name, tensor in net.state_dict().items()}
    train(net, x, y)
    np.savez(project / "sent.npz", **sent)
    np.savez(project / "back.npz", **{name: tensor.detach().numpy() for name, tensor in net.state_dict().items()})
    fedinv.import_files(project / "sent.npz", [project / "back.npz"], out=project / "rec", records=records)
    return project / "rec", x, y


def own(net, x, y):
    import trained

    optimizer = trained.optimizer(net.parameters())
    trained.loss(net(x), y).backward()
    optimizer.step()


def steps(net, x, y):
    import trained

    trained.train(net, [{"x": x, "y": y}], 4, 0.05)


def read_back(folder, x, error=1e-2):
    """Claims' records matched to the true ones, whether every one is right, and the labels in their order."""
    with np.load(folder / "claims.npz") as claims:
        apart = torch.cdist(torch.from_numpy(claims["update-0-records"]), x, p=torch.inf)
        labels = torch.from_numpy(claims["update-0-labels"]) if "update-0-labels" in claims.files else None
    places = apart.argmin(1)
    assert float(apart.amin(1).max()) < error
    return places, labels


def test_an_own_loss_with_an_own_optimizer_is_read_and_without_them_is_not(project):
    folder, x, y = recorded(project, own)
    options = {"network": "trained:Net", "project": project}
    (one,) = fedinv.attack_recording(folder, **options, loss="trained:loss", optimizer="trained:optimizer").updates
    assert (one.verified, one.least) == (10, 10)
    assert one.mismatch < 1e-3
    places, labels = read_back(folder, x)
    assert sorted(places.tolist()) == list(range(10))
    assert torch.equal(labels, y[places])
    # weight decay fills all ranks, and other labels do not explain the update
    (unsaid,) = fedinv.attack_recording(folder, **options).updates
    assert unsaid.verified < 10
    mapped = fedinv.leak_map(folder, **options, optimizer="trained:optimizer")
    assert (mapped.records, fedinv.leak_map(folder, **options).records) == (10, None)


@pytest.mark.slow
def test_several_steps_of_the_app_s_own_training_are_repeated_from_the_command_line(project):
    folder, x, y = recorded(project, steps)
    where = [str(folder), "--network", "trained:Net", "--app", str(project), "--train", "trained:train"]
    done = CliRunner().invoke(app, ["read", *where, "--train-with", "epochs=4,lr=0.05", "--json"])
    (one,) = json.loads(done.stdout)["updates"]
    assert one["verified"] == 10
    assert one["mismatch"] < 1e-3
    places, labels = read_back(folder, x)
    assert torch.equal(labels, y[places])
    # said to have taken another number of steps, the same claims explain nothing, and are no less right
    gate = CliRunner().invoke(app, ["gate", *where, "--train-with", "epochs=2,lr=0.05", "--json"])
    (one,) = json.loads(gate.stdout)["updates"]
    assert (gate.exit_code, one["verified"], one["told"]) == (1, 0, 10)


def test_targets_that_are_numbers_are_solved_for(project):
    def train(net, x, y):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()

    folder, x, y = recorded(project, train, outputs=1, targets=lambda records: torch.randn(records, 1))
    found = fedinv.attack_recording(folder, "trained:number", project=project, loss="mse", optimizer="sgd:lr=0.1")
    (one,) = found.updates
    assert (one.verified, one.labels) == (10, {})
    places, labels = read_back(folder, x)
    assert float((labels - y[places, 0]).abs().max()) < 1e-2


def test_of_a_training_by_adam_nothing_is_said_to_be_known(project):
    folder, _, _ = recorded(project, steps)
    found = fedinv.attack_recording(folder, "trained:Net", project=project, train="trained:adam")
    assert found.updates[0].verified == 0
    assert any("clients train with Adam" in note for note in found.updates[0].notes)
    assert "nothing is known of first (Linear)" in found.headline
    mapped = fedinv.leak_map(folder, "trained:Net", project=project, train="trained:adam")
    assert (mapped.records, any("clients train with Adam" in note for note in mapped.notes)) == (None, True)


def test_what_does_not_fit_the_network_is_one_line(project):
    folder, _, _ = recorded(project, steps)
    for options, said in (
        ({"loss": "mse"}, "--loss: mse: the network has 3 outputs"),
        ({"loss": "trained:lose"}, "--loss: trained has no 'lose'"),
        ({"train": "trained:train"}, "needs lr beside"),
        ({"optimizer": "sgd"}, "needs its learning rate"),
    ):
        for call in (fedinv.attack_recording, fedinv.leak_map):
            with pytest.raises(RequestError, match=said):
                call(folder, "trained:Net", project=project, **options)


class Bytes(nn.Module):
    """Divides by 255 inside of the network, then normalizes by statistics that are never trained."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(14)
        self.first, self.second, self.out = nn.Linear(14, 128), nn.Linear(128, 64), nn.Linear(64, 3)

    def forward(self, x):
        x = torch.relu(self.first(self.norm(x / 255)))
        return self.out(torch.relu(self.second(x)))


def stepped(project, net, x, y, frozen=()):
    """The recording of one step of SGD in evaluation mode, and the arrays that came back."""
    net.eval()
    for one in frozen:
        one.requires_grad_(False)
    sent = {name: tensor.clone().numpy() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.SGD([one for one in net.parameters() if one.requires_grad], lr=0.1)
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    back = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    np.savez(project / "sent.npz", **sent)
    np.savez(project / "back.npz", **back)
    fedinv.import_files(project / "sent.npz", [project / "back.npz"], out=project / "rec")
    return project / "rec", back


def test_records_come_out_in_the_units_of_the_app(project):
    torch.manual_seed(0)
    net, x, y = Bytes(), 255 * torch.rand(10, 14), torch.randint(0, 3, (10,))
    with torch.no_grad():
        net.norm.running_mean.fill_(0.5)
        net.norm.running_var.fill_(1 / 12)
    folder, _ = stepped(project, net, x, y)
    np.savez(project / "truth.npz", records=x.numpy(), labels=y.numpy())
    found = fedinv.attack_recording(folder, net, optimizer="sgd:lr=0.1", truth=project / "truth.npz")
    (one,), (judged,) = found.updates, found.judged
    assert (one.verified, one.inputs, one.layer) == (10, "record", "first")
    places, labels = read_back(folder, x, error=1.0)
    assert torch.equal(labels, y[places])
    assert (judged.inputs, judged.right, judged.verified_right, judged.labels_right) == ("record", 10, 10, 10)


def test_a_head_that_alone_comes_back_is_read_by_what_feeds_it(project):
    import trained

    torch.manual_seed(0)
    net, x, y = trained.Net(), torch.randn(6, 14), torch.randint(0, 3, (6,))
    with torch.no_grad():
        features = torch.relu(net.first(x))
    _, back = stepped(project, net, x, y, list(net.first.parameters()))
    np.savez(project / "head.npz", **{f"module.{name}": back[name] for name in back if not name.startswith("first")})
    fedinv.import_files(project / "sent.npz", [project / "head.npz"], out=project / "head")
    where = {"network": "trained:Net", "project": project}
    assert any(
        "did not come back: first.weight, first.bias" in one for one in fedinv.leak_map(project / "head", **where).notes
    )
    (one,) = fedinv.attack_recording(project / "head", **where, optimizer="sgd:lr=0.1").updates
    assert (one.layer, one.inputs, one.verified) == ("second", "features", 6)
    places, labels = read_back(project / "head", features)
    assert torch.equal(labels, y[places])


def test_an_example_of_the_wrong_shape_is_one_line(project):
    folder, _, _ = recorded(project, steps)
    for call in (fedinv.attack_recording, fedinv.leak_map):
        with pytest.raises(RequestError, match=r"does not accept an example of the shape \(4, 7\)"):
            call(folder, "trained:Net", project=project, example=torch.randn(4, 7))


def test_weights_of_classes_that_are_not_said_make_no_record_of_several(project):
    import trained

    torch.manual_seed(3)
    net, x, y = trained.Net(), torch.randn(8, 14), torch.tensor([0, 1] * 4)
    sent = {name: tensor.clone().numpy() for name, tensor in net.state_dict().items()}
    weights = torch.tensor([1.0, 3.0, 1.0])
    nn.functional.cross_entropy(net(x), y, weight=weights).backward()
    back = {name: sent[name] - 0.1 * one.grad.numpy() for name, one in net.named_parameters()}
    np.savez(project / "weighted-sent.npz", **sent)
    np.savez(project / "weighted-back.npz", **back)
    for reported in (8, 1):
        folder = project / f"weighted-{reported}"
        arrays = (project / "weighted-sent.npz", [project / "weighted-back.npz"])
        fedinv.import_files(*arrays, out=folder, records=reported)
        (one,) = fedinv.attack_recording(folder, "trained:Net", project=project).updates
        assert (one.verified, one.labels) == (8, {"0": 4, "1": 4})
        assert any("records of label 1 count 3 times as much as others" in note for note in one.notes)
