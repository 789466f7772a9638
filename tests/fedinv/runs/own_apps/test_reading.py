"""Updates of networks that are not built here: what is read off them, verified without the truth, and what is not."""

import json
import xml.etree.ElementTree as ElementTree

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
    def __init__(self, inputs=14):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(inputs, 128), nn.Linear(128, 64), nn.Linear(64, 1)

    def forward(self, x):
        return torch.sigmoid(self.out(torch.relu(self.second(torch.relu(self.first(x))))))

def wide():
    return Net(15)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "ownapp").mkdir()
    (tmp_path / "ownapp" / "task.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def network(seed=0):
    from importlib import import_module

    torch.manual_seed(seed)
    return import_module("ownapp.task").Net()


def recorded(project, make, records=16, seed=0):
    """A recording of one step of `make`(parameters), an optimizer, on made-up records; the records, too."""
    net = network(seed)
    x, y = torch.randn(records, 14), (torch.rand(records, 1) > 0.5).float()
    sent = {name: tensor.clone().numpy() for name, tensor in net.state_dict().items()}
    optimizer = make(net.parameters())
    nn.BCELoss()(net(x), y).backward()
    optimizer.step()
    np.savez(project / "sent.npz", **sent)
    np.savez(project / "back.npz", **{name: tensor.numpy() for name, tensor in net.state_dict().items()})
    fedinv.import_files(project / "sent.npz", [project / "back.npz"], out=project / "rec", records=1)
    return project / "rec", x, y


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def test_a_whole_batch_is_read_off_a_step_of_sgd_whatever_the_client_reports(project):
    folder, x, y = recorded(project, sgd)
    found = fedinv.attack_recording(folder, "ownapp.task:Net", project=project)
    (one,) = found.updates
    assert (one.claimed, one.least, one.verified, one.attack) == (1, 16, 16, "row-space")
    assert one.labels == {"0": int((y == 0).sum()), "1": int((y == 1).sum())}
    assert one.mismatch < 1e-3
    assert "16 records off 1 of 1 updates" in found.headline
    with np.load(folder / "claims.npz") as claims:
        apart = torch.cdist(torch.from_numpy(claims["update-0-records"]), x, p=torch.inf)
    assert float(apart.amin(1).max()) < 1e-3
    assert len(set(apart.argmin(1).tolist())) == 16
    assert json.loads((folder / "verdict.json").read_text()) == found.model_dump(mode="json")


def test_a_batch_read_in_part_is_completed_with_every_label_right(project):
    # of this batch the attack reads 31 of 32 records, one with a wrong label
    folder, x, y = recorded(project, sgd, records=32, seed=63)
    (one,) = fedinv.attack_recording(folder, "ownapp.task:Net", project=project).updates
    assert (one.verified, one.mismatch < 1e-3) == (32, True)
    with np.load(folder / "claims.npz") as claims:
        apart = torch.cdist(torch.from_numpy(claims["update-0-records"]), x, p=torch.inf)
        labels = torch.from_numpy(claims["update-0-labels"])
    places = apart.argmin(1)
    assert sorted(places.tolist()) == list(range(32))
    assert torch.equal(labels.float(), y[places, 0])


def test_an_app_that_sends_the_change_itself_is_read_as_well(project):
    folder, _, _ = recorded(project, sgd)
    with np.load(project / "sent.npz") as sent, np.load(project / "back.npz") as back:
        np.savez(project / "change.npz", **{name: back[name] - sent[name] for name in sent.files})
    fedinv.import_files(project / "sent.npz", [project / "change.npz"], out=project / "changes")
    assert fedinv.leak_map(project / "changes", network()).records == fedinv.leak_map(folder, network()).records == 16


def test_a_head_alone_is_read_as_what_it_is(project):
    recorded(project, sgd)
    for name in ("sent", "back"):
        with np.load(project / f"{name}.npz") as arrays:
            np.savez(project / f"head-{name}.npz", **{one: arrays[one] for one in ("out.weight", "out.bias")})
    fedinv.import_files(project / "head-sent.npz", [project / "head-back.npz"], out=project / "head")
    found = fedinv.attack_recording(project / "head", network())
    assert (found.updates[0].layer, found.updates[0].verified) == ("out", 0)
    mapped = fedinv.leak_map(project / "head", network())
    assert any("not on the wire: first.weight" in note for note in mapped.notes)


def test_behind_adam_nothing_is_claimed_and_nothing_is_called_safe(project):
    folder, _, _ = recorded(project, adam)
    found = fedinv.attack_recording(folder, "ownapp.task:Net", project=project)
    assert found.updates[0].verified == 0
    assert found.not_attacked == ["first (Linear)", "second (Linear)", "out (Linear)"]
    assert "nothing is known of first (Linear), second (Linear), out (Linear)" in found.headline
    assert any("as Adam or signs leave them" in note for note in found.updates[0].notes)
    mapped = fedinv.leak_map(folder, "ownapp.task:Net", project=project)
    assert mapped.records is None
    assert all(one.unknown for one in mapped.layers)
    assert mapped.headline.startswith("No attack here can be run on it; of first, second, out nothing is known")


def test_the_map_says_of_each_layer_which_attack_applies_and_why_others_do_not(project):
    folder, _, _ = recorded(project, sgd)
    found = fedinv.leak_map(folder, "ownapp.task:Net", project=project)
    assert (found.claimed, found.records) == (1, 16)
    first, second, last = found.layers
    assert (first.fed, first.gate, first.separable, list(first.applies)) == ("record", "relu", None, ["row-space"])
    assert "full rank 15" in first.why_not["exact"]
    assert (second.separable, second.units_per_record) == (16, 4.0)
    assert set(last.applies) == {"labels"}


def test_a_run_s_own_observations_are_mapped_too(tiny, tmp_path):
    run = fedinv.run(tiny.replace("[32, 16]", "[64, 32]"), out=tmp_path / "run", progress=False)
    found = fedinv.leak_map(run.folder)
    assert [one.name for one in found.layers] == ["0", "2", "4"]
    assert (found.claimed, found.layers[0].fed, found.layers[0].separable) == (6, "record", 6)
    assert "exact" in found.layers[0].applies
    with pytest.raises(RequestError, match="holds 4 observations, there is no number 9"):
        fedinv.leak_map(run.folder, update=9)


def test_what_does_not_fit_is_one_line(project):
    folder, _, _ = recorded(project, sgd)
    for call in (fedinv.leak_map, fedinv.attack_recording):
        with pytest.raises(RequestError, match=r"first.weight is \(128, 14\), the network's \(128, 15\)"):
            call(folder, "ownapp.task:wide", project=project)
    with pytest.raises(RequestError, match="--network: is needed for a recording"):
        fedinv.leak_map(folder)
    with pytest.raises(RequestError, match="holds 1 update to map, there is no number 3"):
        fedinv.leak_map(folder, "ownapp.task:Net", project=project, update=3)


def test_an_update_that_is_not_finite_is_left_out_by_name(project):
    net = network()
    sent = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    np.savez(project / "sent.npz", **sent)
    np.savez(project / "back.npz", **{**sent, "out.bias": np.full(1, np.nan, np.float32)})
    fedinv.import_files(project / "sent.npz", [project / "back.npz"], out=project / "nan")
    found = fedinv.attack_recording(project / "nan", net)
    assert (found.updates, found.skipped) == (
        [],
        ["round 1, client 0: values that are not finite came back, in 'out.bias'"],
    )
    assert found.headline == "Nothing was attacked, as the recording holds no update."


def test_a_recording_without_an_update_passes_no_gate(project):
    recorded(project, sgd)
    with np.load(project / "sent.npz") as sent:
        np.savez(project / "back.npz", **{**sent, "out.bias": np.full(1, np.nan, np.float32)})
    fedinv.import_files(project / "sent.npz", [project / "back.npz"], out=project / "nan")
    command = ["gate", str(project / "nan"), "--network", "ownapp.task:Net", "--app", str(project)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert (done.exit_code, json.loads(done.stdout)["passed"]) == (1, False)
    assert "FAIL: 0 of 0 updates may leave" in CliRunner().invoke(app, command).stdout


@pytest.mark.parametrize(
    ("make", "answer", "code", "said"),
    [
        (sgd, "refuse", 1, "16 of 16 records can be read off it"),
        (adam, "refuse", 1, "no attack applies behind Adam"),
        (adam, "send", 0, "pass"),
    ],
)
def test_the_gate_fails_above_its_limit_and_says_so_to_pipelines(project, make, answer, code, said):
    folder, _, _ = recorded(project, make)
    where = ["--network", "ownapp.task:Net", "--app", str(project)]
    command = ["gate", str(folder), *where, "--limit", "0.01", "--unknown", answer]
    done = CliRunner().invoke(app, [*command, "--junit", str(project / "gate.xml")])
    assert (done.exit_code, said in done.stdout) == (code, True)
    suite = ElementTree.parse(project / "gate.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", str(code))
    assert len(suite.findall("testcase/failure")) == code
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (told["passed"], told["limit"]) == (code == 0, 0.01)


def test_the_commands_print_tables_for_people(project):
    folder, _, _ = recorded(project, sgd)
    where = ["--network", "ownapp.task:Net", "--app", str(project)]
    shown = CliRunner().invoke(app, ["map", str(folder), *where]).stdout
    assert "Records behind it: 16 or more, by the ranks; the client reports 1." in shown
    shown = CliRunner().invoke(app, ["read", str(folder), *where]).stdout
    assert "The server can read 16 records off 1 of 1 updates" in shown
    assert CliRunner().invoke(app, ["read", str(folder)]).exit_code != 0
