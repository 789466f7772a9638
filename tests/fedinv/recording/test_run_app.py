import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app as command_line
from fedinv.errors import RequestError, RunError
from fedinv.recording import app as apps

APPS = Path(__file__).parents[2] / "apps"
HEAD = """
[project]
name = "made up"
version = "1"
[tool.flwr.app]
publisher = "me"
[tool.flwr.app.components]
serverapp = "serving:app"
clientapp = "answering.here:box.app"
[tool.flwr.app.config]
rounds = 3
lr = 0.1
name = "a b"
[tool.flwr.app.config.deep.er]
on = true
"""
SERVER = """
import os
from flwr.app import Message, RecordDict, ConfigRecord
from flwr.serverapp import ServerApp

app = ServerApp()
before = dict(os.environ)

@app.main()
def main(grid, context):
    from later import WORDS
    print("stdout is the app's", context.run_config["lr"], context.run_config["deep.er.on"])
    nodes = list(grid.get_node_ids())
    for round_ in range(int(context.run_config["rounds"])):
        config = ConfigRecord({"server-round": round_ + 1, "words": WORDS, "cwd": os.getcwd()})
        messages = [Message(RecordDict({"config": config}), node, "train.count") for node in nodes]
        messages.append(Message(RecordDict({"config": config}), 17, "train"))
        list(grid.send_and_receive(messages))
    if context.run_config["name"] == "fail":
        raise ValueError("no more\\nof this")
    if context.run_config["name"] == "wait":
        while len(list(grid.get_node_ids())) < 99:
            pass
"""
CLIENT = """
from types import SimpleNamespace
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

box = SimpleNamespace(app=ClientApp())

@box.app.train("count")
def count(message, context):
    seen = context.state.config_records.get("seen", ConfigRecord({"times": 0}))
    context.state["seen"] = ConfigRecord({"times": seen["times"] + 1})
    context.run_config["lr"] = 99.0
    facts = {"times": seen["times"] + 1, "part": context.node_config["partition-id"]}
    facts["of"] = context.node_config["num-partitions"]
    if facts["part"] == 1:
        raise SystemExit("gone")
    if facts["part"] == 2:
        return "nothing"
    return Message(RecordDict({"m": MetricRecord(facts)}), reply_to=message)
"""


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    (folder / "answering").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(HEAD)
    (folder / "serving.py").write_text(SERVER)
    (folder / "later.py").write_text("WORDS = 'later'\n")
    (folder / "answering/here.py").write_text(CLIENT)
    return folder


@pytest.mark.parametrize(
    ("name", "kinds", "updates"),
    [
        ("tabular", ["train", "evaluate"] * 2, 6),
        ("images", ["train", "evaluate"], 3),
        ("opacus", ["train"], 3),
        ("mods", ["query.labels", "train"], 3),
        ("secagg", ["train"] * 4 + ["evaluate"], 0),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_app_is_recorded_with_no_line_changed(name, kinds, updates, tmp_path):
    before = {*sys.modules}
    found = fedinv.record(APPS / name, nodes=3, out=tmp_path)
    assert [one.kind for one in found.exchanges] == [kind for kind in kinds for _ in range(3)]
    assert not found.skipped
    assert {one.error for one in found.exchanges} == {None}
    assert len(found.updates) == updates
    for update in found.updates:
        assert list(update.sent) == list(update.received)
        assert any(not bool((update.sent[n] == update.received[n]).all()) for n in update.sent)
        assert all(update.sent[n].dtype == update.received[n].dtype for n in update.sent)
        # the one that counts batches
        assert update.claimed_records == {"tabular": 3, "images": 8, "opacus": 8, "mods": 12}[name]
    assert not {"tabular", "images", "dpsgd", "modded", "secagg"} & ({*sys.modules} - before)


def test_what_secure_aggregation_hides_is_not_taken_for_updates(tmp_path):
    found = fedinv.record(APPS / "secagg", nodes=3, out=tmp_path)
    vectors = [one.metrics["masked_params"] for one in found.exchanges if "masked_params" in one.metrics]
    assert len(vectors) == 3
    assert len({one.sha256 for one in vectors}) == 3
    assert min(one.bytes for one in vectors) > 20


def test_config_state_errors_path_and_folder_are_as_flower_has_them(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    told = []
    found = fedinv.record(
        "made", nodes=4, run_config="rounds=2 lr=0.5", tell=lambda share, now: told.append((share, now))
    )
    assert found.folder == tmp_path / "runs/made-up-1"
    assert "stdout is the app's 0.5 True" in capsys.readouterr().out
    assert (sys.path, {m for m in {*sys.modules} - modules if m in ("serving", "later", "answering")}) == (path, set())
    assert len(found.exchanges) == 10
    good = [one for one in found.exchanges if one.error is None]
    assert [(one.metrics["part"], one.metrics["times"], one.metrics["of"]) for one in good] == [
        (0, 1, 4),
        (3, 1, 4),
        (0, 2, 4),
        (3, 2, 4),
    ]
    assert good[0].config == {"server-round": 1, "words": "later", "cwd": str(tmp_path)}
    errors = [one.error for one in found.exchanges if one.round == 1 and one.error]
    assert errors[0] == "<class 'SystemExit'>:<'gone'>"
    assert "returned str in place of a Message" in errors[1]
    assert "no such node" in errors[2]
    assert told[-2:] == [(0.5, "round 2, 10 replies, 6 of them errors"), (1.0, "done")]
    assert fedinv.record("made", nodes=1).folder == tmp_path / "runs/made-up-2"


LEGACY_SERVER = """
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

def server_fn(context):
    strategy = FedAvg(min_available_clients=2, on_fit_config_fn=lambda round_: {"lr": 0.5})
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=int(context.run_config["rounds"])))

app = ServerApp(server_fn=server_fn)
"""
LEGACY_CLIENT = """
from types import SimpleNamespace
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

class Adding(NumPyClient):
    def get_parameters(self, config):
        return [np.zeros((2, 2), np.float32), np.zeros(3)]

    def fit(self, parameters, config):
        return [array + 1 for array in parameters], 5, {"loss": 0.25}

    def evaluate(self, parameters, config):
        return 0.5, 5, {}

box = SimpleNamespace(app=ClientApp(client_fn=lambda context: Adding().to_client()))
"""


@pytest.mark.filterwarnings("ignore")
def test_an_app_of_the_older_interface_is_recorded(made, tmp_path):
    (made / "serving.py").write_text(LEGACY_SERVER)
    (made / "answering/here.py").write_text(LEGACY_CLIENT)
    found = fedinv.record(made, nodes=2, out=tmp_path / "run", run_config="rounds=2")
    first = found.exchanges[0]
    assert (first.kind, first.round, first.error) == ("get_parameters", 1, None)
    assert len(found.updates) == 4
    for update in found.updates:
        assert update.sent["0"].tolist() == [[update.round - 1] * 2] * 2
        assert update.received["1"].tolist() == [update.round] * 3
        assert str(update.received["1"].dtype) == "torch.float64"
        assert (update.claimed_records, update.config["lr"], update.metrics["loss"]) == (5, 0.5, 0.25)


def test_a_module_of_the_same_name_is_not_taken_and_is_there_again(made, tmp_path, monkeypatch):
    import types

    mine = types.ModuleType("serving")
    monkeypatch.setitem(sys.modules, "serving", mine)
    assert len(fedinv.record(made, nodes=1, out=tmp_path / "run").exchanges) == 6
    assert sys.modules["serving"] is mine


def test_an_app_that_fails_keeps_what_was_recorded(made, tmp_path):
    with pytest.raises(
        RunError, match=r"made: the app failed: ValueError: no more of this \(serving.py, line 20\); .*run holds"
    ):
        fedinv.record(made, nodes=1, out=tmp_path / "run", run_config="name='fail'")
    assert len(fedinv.open_recording(tmp_path / "run").exchanges) == 6
    with pytest.raises(RequestError, match="run: is not empty"):
        fedinv.record(made, nodes=1, out=tmp_path / "run")


def test_an_app_that_waits_for_more_nodes_is_not_waited_for(made, tmp_path):
    with pytest.raises(RunError, match="the app waits for more than 2 nodes: raise --nodes"):
        fedinv.record(made, nodes=2, out=tmp_path / "run", run_config=["name='wait'", "rounds=1"])


def test_an_app_that_asks_nobody_is_said(made, tmp_path):
    with pytest.raises(RunError, match="ended without a message"):
        fedinv.record(made, nodes=2, out=tmp_path / "run", run_config="rounds=0")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("roundz=2", "no setting 'roundz' .did you mean 'rounds'"),
        ("rounds=two", "not valid TOML"),
        ("rounds", "not valid TOML"),
        ("lr=[1]", "lr: must be a number, a text, true or false"),
        ("missing.toml", "missing.toml: cannot be read"),
    ],
)
def test_a_wrong_override_is_a_line(made, override, words):
    with pytest.raises(RequestError, match=words) as refused:
        apps.read(made, [override])
    assert "\n" not in str(refused.value)


def test_overrides_are_written_as_flower_takes_them(made, tmp_path):
    (tmp_path / "mine.toml").write_text("rounds = 9\n[deep.er]\non = false\n")
    found = apps.read(made, ["rounds=1 name='x y=2'", "lr = 1e-3", "deep.er.on=false"]).config
    assert found == {"rounds": 1, "lr": 0.001, "name": "x y=2", "deep.er.on": False}
    assert apps.read(made, [str(tmp_path / "mine.toml")]).config["rounds"] == 9


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("pyproject.toml", None, "is no Flower app: it has no pyproject.toml"),
        ("pyproject.toml", "[project", "not valid TOML"),
        ("pyproject.toml", '[project]\nname = "x"', r'components\] has no serverapp = "module:app"'),
        ("pyproject.toml", HEAD.replace("serving:app", "serving"), "has no serverapp"),
        ("pyproject.toml", HEAD.replace("serving:app", "serving:ap"), "serving has no 'ap' .did you mean 'app'"),
        ("pyproject.toml", HEAD.replace("serving:app", "answering.here:box.app"), "is no ServerApp but ClientApp"),
        ("pyproject.toml", HEAD.replace("lr = 0.1", "lr = [1]"), "lr: must be a number"),
        ("serving.py", "import nowhere_at_all", "serving cannot be imported: ModuleNotFoundError: .*install what"),
        ("serving.py", "\n\n1 / 0", r"ZeroDivisionError: division by zero \(serving.py, line 3\)"),
        ("serving.py", "def", "SyntaxError"),
        ("serving.py", "raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_folder_that_is_no_app_is_a_line(made, tmp_path, file, content, words):
    if content is None:
        (made / file).unlink()
    else:
        (made / file).write_text(content)
    with pytest.raises(RequestError, match=words) as refused:
        fedinv.record(made, out=tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_the_commands_print_what_they_recorded(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["record", "made", "--nodes", "3", "--run-config", "rounds=1", "--out", "run"]
    done = CliRunner().invoke(command_line, arguments)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "run: 0 updates of 4 clients in 0 rounds; 4 messages, 3 of them without a reply that can be used"
    )
    assert "no update can be read" in lines[1]
    assert "<class 'SystemExit'>:<'gone'>" in lines[2]
    assert "stdout is the app's" in done.stderr
    done = CliRunner().invoke(command_line, [*arguments[:-1], "other", "--json"])
    document = json.loads(done.stdout)
    assert (document["messages"], document["recording"]) == (4, "other")


def test_a_run_without_any_usable_reply_fails(made, tmp_path):
    (made / "answering/here.py").write_text(CLIENT.replace('facts["part"] == 1', "True"))
    done = CliRunner().invoke(command_line, ["record", str(made), "--out", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert "15 messages, 15 of them without a reply that can be used" in done.stdout


def test_the_import_command(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", w=np.zeros(2))
    done = CliRunner().invoke(command_line, ["import", "a.npz", "a.npz", "a.npz", "--out", "run", "--records", "4"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("run: 2 updates of 2 clients in 1 round; 2 messages, 0 of them")
    assert [path.name for path in Path("run").iterdir()] == ["wire"]


@pytest.mark.filterwarnings("ignore")
def test_the_command_says_what_of_a_secure_aggregation_can_be_read(tmp_path):
    said = (
        CliRunner()
        .invoke(command_line, ["record", str(APPS / "secagg"), "--nodes", "3", "--out", str(tmp_path / "a")])
        .stdout
    )
    assert "1 sum behind SecAgg+ can be read, as fedinv read does, and no client's update" in said
    command = ["record", str(APPS / "masked"), "--nodes", "2", "--out", str(tmp_path / "b")]
    said = CliRunner().invoke(command_line, [*command, "--run-config", "evaluate=0.0"]).stdout
    assert "no update can be read: a secure aggregation masks them" in said
    assert "no later message shows the model that was made of their sum" in said
