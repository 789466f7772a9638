"""What is wrong with a command on one's own app is one line: what, where, and what to write instead."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedinv import cli

TOY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs=5):
        super().__init__()
        self.a, self.b = nn.Linear(inputs, 16), nn.Linear(16, 2)
    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

def wide(): return Net(7)
def broken(): raise KeyError("weights")
def needs(x): return Net()
def example(): return torch.zeros(3, 9)
def loss(outputs): return outputs
def train(network): pass
def few(): return torch.zeros(4, 3)
number = 7
"""
PROJECT = """
[project]
name = "x"
version = "1.0.0"
[tool.flwr.app]
publisher = "me"
[tool.flwr.app.components]
serverapp = "{module}:app"
clientapp = "{module}:app"
[tool.flwr.app.config]
rounds = 1
"""


def status() -> int:
    """The exit status of the command in sys.argv."""
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with an app's module, recordings whole and damaged, tables, and projects that do not start."""
    home = tmp_path_factory.mktemp("app")
    (home / "bad_input_toy.py").write_text(TOY)
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("a", nn.Linear(5, 16))
    network.add_module("relu", nn.ReLU())
    network.add_module("b", nn.Linear(16, 2))
    nn.functional.cross_entropy(network(torch.randn(4, 5)), torch.tensor([0, 1, 0, 1])).backward()
    sent = {name: one.detach().clone() for name, one in network.named_parameters()}
    back = {name: sent[name] - 0.1 * one.grad for name, one in network.named_parameters()}
    save_file(sent, home / "sent.safetensors")
    save_file(back, home / "back.safetensors")
    save_file({name: one + torch.nan for name, one in back.items()}, home / "nan.safetensors")
    save_file({"a.weight": torch.zeros(16, 7)}, home / "wide.safetensors")
    (home / "text.npz").write_text("no archive")
    (home / "two.csv").write_text("a,b\n1,2\n")
    (home / "texts.csv").write_text("a,b,c,d,e\n1,2,3,4,joe\n")
    (home / "five.csv").write_text("a,b,c,d,e\n1,2,3,4,5\n")
    (home / "six.csv").write_text("a,b,c,d,e\n6,7,8,9,0\n")
    np.savez(home / "unnamed.npz", inputs=np.zeros((3, 5)), classes=np.zeros(3))
    # steps of one size, as Adam's first one, and records that one column rules, which a ReLU network takes for one
    steps = {name: 0.001 * one.grad.sign() for name, one in network.named_parameters()}
    save_file({name: sent[name] - step for name, step in steps.items()}, home / "adam.safetensors")
    network.zero_grad()
    ruled = torch.randn(4, 5)
    ruled[:, 3] = 1e5 * (1 + 0.3 * torch.rand(4))
    nn.functional.cross_entropy(network(ruled), torch.tensor([0, 1, 0, 1])).backward()
    steps = {name: 1e-6 * one.grad for name, one in network.named_parameters()}
    save_file({name: sent[name] - step for name, step in steps.items()}, home / "mean.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name, file in (("whole", "back"), ("nan", "nan"), ("adam", "adam"), ("mean", "mean")):
            patch.setattr(sys, "argv", ["fedinv", "import", "sent.safetensors", f"{file}.safetensors", "--out", name])
            assert status() == 0
    for name in ("garbage", "swapped"):
        shutil.copytree(home / "whole", home / name)
    (home / "garbage/wire/messages.jsonl").write_text("hello\n")
    first, second = sorted((home / "swapped/wire").glob("*.safetensors"))
    first.write_bytes(second.read_bytes())
    for name, text in {"old": "[project]\nname = 'x'\n", "gone": PROJECT.format(module="nowhere.server")}.items():
        (home / name).mkdir()
        (home / name / "pyproject.toml").write_text(text)
    return home


NET = "--network bad_input_toy:Net"
MISTAKES = {
    "import sent.safetensors nowhere.npz --out x": "nowhere.npz: there is no such file",
    "import sent.safetensors whole --out x": "whole: is a folder, name a file of arrays",
    "import sent.safetensors text.npz --out x": "text.npz: is damaged, or no npz file: save arrays by numpy.savez",
    "import sent.safetensors two.csv --out x": "two.csv: files end in .safetensors",
    "import sent.safetensors wide.safetensors --out x": "a.weight has shape (16, 7), and (16, 5) in sent.safetensors",
    "import sent.safetensors back.safetensors --names c --out x": "c is no array of sent.safetensors (known: a.bias",
    "import sent.safetensors back.safetensors --out two.csv": "two.csv: is a file, name a folder",
    "map whole": "--network: is needed for a recording",
    "map nowhere": "nowhere: is neither a recording, as fedinv record makes, nor a run of fedinv's",
    "map whole --network bad_input_toy": "names no object, write module:name",
    "map whole --network bad_input_toy:Nett": "has no 'Nett' (did you mean 'Net'?)",
    "map whole --network bad_input_toy:number": "is a int, name a class or a function",
    "map whole --network bad_input_toy:broken": "bad_input_toy:broken failed: KeyError",
    "map whole --network bad_input_toy:needs": "cannot be called without arguments",
    "map whole --network bad_input_toy:wide": "do not fit the network: a.weight is (16, 5), the network's (16, 7)",
    f"map whole {NET} --app nowhere": "there is no folder nowhere, name the app's own",
    f"map whole {NET} --example bad_input_toy:example": "of the shape (3, 9): RuntimeError: name a batch of its inputs",
    f"map whole {NET} --update 5": "holds 1 update to map, there is no number 5",
    f"map whole {NET} --loss mse2": "did you mean 'mse'?",
    f"map whole {NET} --optimizer sgd:lr=x": "--optimizer: lr is 'x', write a number",
    f"map whole {NET} --train bad_input_toy:train": "is called with a network and a loader first",
    f"map nan {NET}": "values that are not finite came back",
    f"map garbage {NET}": "wire/messages.jsonl is no recording of fedinv's",
    f"map swapped {NET}": "does not hold the arrays that it is named after",
    f"read whole {NET} --out two.csv": "two.csv: is a file, name a folder",
    f"read whole {NET} --truth two.csv": "has 2 columns, and the network has 5 inputs",
    f"read whole {NET} --truth texts.csv": "column 'e' holds 1 cells that are no numbers (the first is in row 2)",
    f"read whole {NET} --truth bad_input_toy:few": "records have the shape (3,), and the network takes (5,)",
    f"gate whole {NET} --loss bad_input_toy:loss": "does not take the network's outputs",
    f"gate whole {NET} --junit whole": "--junit: whole is a folder, name a file",
    "gate nowhere": "holds no recording; make one with fedinv record",
    f"probe whole {NET} --records unnamed.npz --others five.csv": "names no array 'records'",
    f"probe whole {NET} --records five.csv --others two.csv": "has 2 columns, and the network has 5 inputs",
    f"probe whole {NET} --others five.csv": "name either your records by it, or those that were trained on",
    f"probe whole {NET} --records five.csv --others six.csv --update 9": "there is 1 update, and no number 9",
    "record nowhere": "it has no pyproject.toml; name the folder that flwr run is given",
    "record old": '[tool.flwr.app.components] has no serverapp = "module:app"',
    "record gone": "No module named 'nowhere'; install what the app needs into this environment first",
    "record gone --run-config rouns=3": "the app has no setting 'rouns'",
    "record gone --run-config rounds=two": "write key=value, texts in double quotes",
    f"probe whole {NET} --records five.csv --others five.csv": "all of them are among the records too",
    "record gone --out whole": "whole: is not empty; name another folder",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_what_is_wrong_is_one_line_and_nothing_is_lost(home, command, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["fedinv", *command.split()])
    before = {path: path.stat().st_mtime_ns for path in Path("whole").rglob("*") if path.is_file()}
    assert status() == 2
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if "0:00" not in line]  # the bar of what was begun
    assert len(said) == 1, printed.err
    assert said[0].startswith("fedinv: ")
    assert MISTAKES[command] in said[0]
    assert not printed.out
    assert "joe" not in said[0], "no cell of somebody's data"
    assert {path: path.stat().st_mtime_ns for path in Path("whole").rglob("*") if path.is_file()} == before
    assert not (home / "x").exists()


def gated(monkeypatch, capsys, command):
    """The exit status of a gate and what it printed."""
    monkeypatch.setattr(sys, "argv", ["fedinv", "gate", *command.split()])
    return status(), capsys.readouterr().out


def test_a_gate_refuses_what_nothing_is_known_of_unless_it_is_told_to_send_it(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    exit_status, out = gated(monkeypatch, capsys, f"adam {NET}")
    assert (exit_status, "FAIL round 1, client 0: no attack applies behind Adam" in out) == (1, True)
    assert gated(monkeypatch, capsys, f"adam {NET} --unknown send")[0] == 0


def test_a_gate_counts_what_may_be_the_mean_of_several_records(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    exit_status, out = gated(monkeypatch, capsys, f"mean {NET} --limit 0.2")
    assert exit_status == 1
    assert "records can be read off it" in out and "0 of them verified" in out


def test_a_gate_that_attacked_nothing_fails_and_says_what_was_left_out(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "argv", ["fedinv", "gate", "nan", *NET.split()])
    assert status() == 1
    assert "left out: round 1, client 0: values that are not finite came back" in capsys.readouterr().out
