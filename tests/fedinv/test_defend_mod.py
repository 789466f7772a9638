import logging
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

import fedinv
from fedinv import plugins
from fedinv.defend_mod import defend, defense_of
from fedinv.engines.inline import InlineGrid
from fedinv.engines.node_states import NodeStates
from fedinv.errors import RequestError
from fedinv.privacy import ledger as ledgers
from fedinv.privacy.claims import epsilon

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/defenses.md").read_text(encoding="utf-8")

APP = """
import sys

import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn

from fedinv.defend_mod import defend

client = ClientApp(mods=[defend("clip-noise:clip=0.5:noise_multiplier=0.2", seed=5, buffers="reset")])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@client.train()
def train(message, context):
    net = network()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    part = context.node_config["partition-id"]
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(part))
    nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
    torch.optim.SGD(net.parameters(), 0.5).step()
    metrics = MetricRecord({"num-examples": 32})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    return Message(RecordDict({"m": MetricRecord({"num-examples": 32, "accuracy": 0.5})}), reply_to=message)


class Watched(FedAvg):
    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        assert not any(reply.has_error() for reply in replies), [str(reply.error) for reply in replies]
        for reply in replies:
            arrays = reply.content["arrays"]
            print("SEEN", server_round, arrays["0.weight"].numpy().sum(), arrays["1.num_batches_tracked"].numpy())
        return super().aggregate_train(server_round, replies)


server = ServerApp()


@server.main()
def main(grid, context):
    strategy = Watched(min_train_nodes=2, min_evaluate_nodes=2, min_available_nodes=2)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord(network().state_dict()), num_rounds=2)
    print("ACCURACY", result.evaluate_metrics_clientapp[2]["accuracy"])


if __name__ == "__main__":
    one_worker = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 1}}
    run_simulation(server, client, 2, backend_config=one_worker)
"""


@pytest.mark.parametrize(
    "written",
    [
        "top-k:keep=0.25",
        " top-k:keep=0.25:error_feedback=true",
        {"kind": "top-k", "keep": 0.25},
        plugins.load("defenses", "top-k")(keep=0.25),
    ],
)
def test_a_defense_may_be_written_in_any_of_four_ways(written):
    assert defense_of(written) == plugins.load("defenses", "top-k")(keep=0.25)
    assert callable(defend(written, seed=1))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("topk", "unknown defense 'topk' .did you mean 'top-k'?"),
        ({"keep": 0.1}, "defense: has no kind, write"),
        ("top-k:keep", "'keep' is no setting, write top-k:key=value"),
        ("top-k:kep=0.1", "defense top-k: kep: unknown key .did you mean 'keep'?"),
        ({"kind": "top-k", "keep": 7}, "defense top-k: keep: .* not 7"),
        ("top-k+sign", "a mod is one defense"),
        ("dp-sgd", "dp-sgd: replaces local training"),
    ],
)
def test_what_cannot_be_a_mod_is_refused_with_a_line(written, words):
    with pytest.raises(RequestError, match=words) as refused:
        defend(written, seed=1)
    assert "\n" not in str(refused.value)


def test_the_guides_app_is_protected(monkeypatch):
    monkeypatch.setattr(fedinv, "defend", defend, raising=False)
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "fedinv.defend" in block)
    scope: dict = {}
    exec(code, scope)
    app = scope["app"]

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays = {name: Array(array.numpy() + 1) for name, array in message.content["arrays"].items()}
        return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    arrays = {"w": Array(np.zeros(5000, np.float32)), "bn.running_mean": Array(np.zeros(3, np.float32))}
    asked = Message(RecordDict({"arrays": ArrayRecord(arrays)}), 5, "train")
    reply = app(asked, context := Context(run_id=1, node_id=5, node_config={}, state=RecordDict(), run_config={}))
    assert not reply.content["arrays"]["bn.running_mean"].numpy().any()
    (event,) = ledgers.read(str(context.state["fedinv.defend"]["ledger"]))
    assert 7.9 < epsilon([replace(event, steps=20)], event.delta) <= 8
    assert reply.content["arrays"]["w"].numpy().std() == pytest.approx(0.5 * event.noise_multiplier, rel=0.05)


def test_the_guide_names_the_mods_that_there_are():
    section = GUIDE.split("## In a Flower app of your own")[1].split(":", 1)[1].split(". All others")[0]
    built_in = {kind for kind, plugin in plugins.available("defenses").items() if isinstance(plugin.origin, Path)}
    assert {kind for kind in built_in if is_mod(kind)} == set(re.findall("`([a-z-]+)`", section))


def is_mod(kind: str) -> bool:
    try:
        defend(kind, seed=1)
    except RequestError:
        return False
    return True


def test_it_is_imported_without_torch_or_flower():
    code = "import sys, fedinv.defend_mod; assert not {'torch', 'flwr'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class StrategyGrid(InlineGrid):
    """Takes the messages of Flower's strategies, which name no group."""

    def push_messages(self, messages):
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(next(self._ids))
            self._replies[message.metadata.message_id] = self._execute(message)
            ids.append(message.metadata.message_id)
        return ids


def learned(mods: list, folder: Path, rounds: int = 6) -> tuple[list[tuple[dict, dict]], list[float], nn.Module]:
    """FedAvg of three clients over an app with BatchNorm.

    Returns what was trained and what was seen of it in each reply, the accuracy by round, and the final network.
    """
    app, seen, trained = ClientApp(mods=mods), [], {}
    random.seed(0)  # by which FedAvg samples

    def network() -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

    def received(message: Message, context: Context) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        net = network()
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        generator = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
        x = torch.randn(64, 4, generator=generator) * 2 + 1
        return net, x, (x[:, 0] > x[:, 1]).long()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        net, x, y = received(message, context)
        sgd = torch.optim.SGD(net.parameters(), 0.2)
        for _ in range(10):
            sgd.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            sgd.step()
        trained[message.metadata.message_id] = {k: v.numpy().copy() for k, v in net.state_dict().items()}
        content = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": 64})}
        return Message(RecordDict(content), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        net, x, y = received(message, context)
        net.eval()
        right = float((net(x).argmax(1) == y).float().mean())
        return Message(RecordDict({"m": MetricRecord({"num-examples": 64, "right": right})}), reply_to=message)

    class Watched(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            for reply in replies:
                assert not reply.has_error(), reply.error
                assert reply.metadata.group_id == ""
                arrays = {k: a.numpy() for k, a in reply.content["arrays"].items()}
                seen.append((trained[reply.metadata.reply_to_message_id], arrays))
            return super().aggregate_train(server_round, replies)

    states = NodeStates(folder / "nodes.sqlite", 0)
    grid = StrategyGrid(app, 3, {}, states, lambda _: None)
    strategy = Watched(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)
    start = ArrayRecord({name: Array(tensor.numpy()) for name, tensor in network().state_dict().items()})
    logging.getLogger("flwr").setLevel(logging.ERROR)
    result = strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds)
    states.close()
    final = network()
    final.load_state_dict(result.arrays.to_torch_state_dict())
    return seen, [result.evaluate_metrics_clientapp[r]["right"] for r in range(1, rounds + 1)], final


def test_an_app_of_flowers_fedavg_learns_behind_a_mod(tmp_path):
    seen, right, final = learned([defend("top-k:keep=0.3", seed=5)], tmp_path)
    assert len(seen) == 18
    assert right[-1] > 0.9
    assert float(final[1].running_var.min()) > 0
    for trained, arrays in seen:
        for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
            assert arrays[name].dtype == trained[name].dtype
            assert np.array_equal(arrays[name], trained[name])
        assert not np.array_equal(arrays["0.weight"], trained["0.weight"])


def test_a_private_app_learns_and_its_buffers_tell_nothing(tmp_path):
    mods = [defend("clip-noise:clip=2:noise_multiplier=0.02", seed=5, buffers="reset")]
    seen, right, final = learned(mods, tmp_path)
    assert len(seen) == 18
    assert right[-1] > 0.75
    assert torch.equal(final[1].running_var, torch.ones(16))
    assert not any(int(arrays["1.num_batches_tracked"]) for _, arrays in seen)
    again, _, _ = learned(mods, tmp_path)
    for (_, one), (_, other) in zip(seen, again, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)  # the same seed, the same run


@pytest.mark.slow
def test_the_mod_works_under_flowers_own_simulation(tmp_path, start):
    (tmp_path / "app.py").write_text(APP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FLWR_HOME": str(tmp_path), "FLWR_TELEMETRY_ENABLED": "0"}
    environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "app.py"]
    done = start(command, cwd=tmp_path, env=environment).ended()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("SEEN")]
    assert [row[0] for row in seen] == ["1", "1", "2", "2"]
    assert len({row[1] for row in seen}) == 4
    assert {float(row[2]) for row in seen} == {0.0}
    assert "ACCURACY 0.5" in done.stdout
