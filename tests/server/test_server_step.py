from fractions import Fraction

import pytest
import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from flwr.supercore.task_identity import TaskIdentity

from fedinv.errors import RequestError
from fedinv.federation import strategies, wire
from fedinv.scenario import loads
from server.server_step import step

SHAPES = {"0.weight": (3, 4), "0.bias": (3,)}
WEIGHTS = (8.0, 3.0, 5.0)
TABLES = {
    "fedavgm": (
        strategies.FedAvgM(server_learning_rate=0.7, server_momentum=0.6),
        lambda: flower.FedAvgM(server_learning_rate=0.7, server_momentum=0.6),
    ),
    "fedadam": (
        strategies.FedAdam(eta=0.02, beta_1=0.8, beta_2=0.9, tau=0.01),
        lambda: flower.FedAdam(eta=0.02, beta_1=0.8, beta_2=0.9, tau=0.01),
    ),
    "fedyogi": (
        strategies.FedYogi(eta=0.02, beta_1=0.8, beta_2=0.9, tau=0.01),
        lambda: flower.FedYogi(eta=0.02, beta_1=0.8, beta_2=0.9, tau=0.01),
    ),
}


@pytest.fixture(autouse=True)
def in_a_server_app(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1, raising=False)


def drawn(generator):
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def replied(weights, examples):
    content = RecordDict({"arrays": wire.pack(weights), "metrics": MetricRecord({"num-examples": examples})})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


@pytest.mark.parametrize("kind", TABLES)
def test_several_rounds_are_those_of_flowers_strategy_on_the_clients_own_models(kind):
    table, make = TABLES[kind]
    generator, theirs = torch.Generator().manual_seed(0), make()
    model = other = drawn(generator)
    memory = {}
    for round_ in (1, 2, 3):
        updates = [{k: 0.1 * t for k, t in drawn(generator).items()} for _ in WEIGHTS]
        if kind == "fedavgm":
            theirs.current_arrays = theirs.current_arrays or wire.pack(other)
        else:
            theirs.current_arrays = {k: t.numpy() for k, t in other.items()}
        replies = [replied({k: other[k] + u[k] for k in u}, int(w)) for u, w in zip(updates, WEIGHTS, strict=True)]
        arrays, _ = theirs.aggregate_train(round_, replies)
        other = {k: torch.from_numpy(array.numpy()).float() for k, array in arrays.items()}
        found = step(table, model, wire.weighted_mean(updates, WEIGHTS), memory, round_)
        assert all(torch.allclose(found.weights[k], other[k], atol=1e-5) for k in SHAPES), round_
        averaged = {k: model[k] + wire.weighted_mean(updates, WEIGHTS)[k] for k in SHAPES}
        assert any(not torch.allclose(found.weights[k], averaged[k], atol=1e-3) for k in SHAPES)
        model, memory = found.weights, {k: t.clone() for k, t in found.memory.items()}
    assert all(tensor.dtype == torch.float32 for part in (model, memory) for tensor in part.values())


def test_fedavg_adds_the_mean_and_remembers_nothing():
    generator = torch.Generator().manual_seed(0)
    model, mean = drawn(generator), drawn(generator)
    found = step(strategies.FEDAVG, model, mean, {}, 1)
    assert all(torch.equal(found.weights[k], model[k] + mean[k]) for k in SHAPES)
    assert found.memory == {}


@pytest.mark.parametrize("kind", TABLES)
def test_running_statistics_are_averaged_whatever_the_strategy(kind):
    model = {"0.weight": torch.ones(2), "1.running_var": torch.full((2,), 1e-3)}
    mean = {"0.weight": torch.ones(2), "1.running_var": torch.full((2,), -5e-4)}
    memory = {}
    for round_ in (1, 2):
        found = step(TABLES[kind][0], model, mean, memory, round_)
        memory = found.memory
    assert torch.allclose(found.weights["1.running_var"], torch.full((2,), 5e-4))
    assert list(found.weights) == list(model)


def test_momentum_without_a_share_is_fedavg():
    model, mean = {"a": torch.ones(2)}, {"a": torch.full((2,), float(Fraction(1, 4)))}
    table = strategies.FedAvgM(server_momentum=0.0)
    assert torch.equal(step(table, model, mean, {}, 1).weights["a"], model["a"] + mean["a"])


def test_pruned_weights_are_not_moved_by_another_step(tiny):
    text = tiny.replace("rounds = 3", 'rounds = 3\nstrategy = "fedadam"') + '[[defenses]]\nkind = "small-model"\n'
    with pytest.raises(RequestError, match=r"federation.strategy: 'small-model' needs \"fedavg\": weights that are"):
        loads(text)


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        ('strategy = "fedadm"', "federation.strategy: unknown 'fedadm' (did you mean 'fedadam'?)"),
        ('strategy = "FedProx"', "write training.proximal, FedProx's mu"),
        ('strategy = "krum"', "federation.strategy: 'krum' is not there (known: fedavg, fedavgm, fedadam, fedyogi)"),
        ('strategy = { kind = "fedadam", lr = 0.1 }', "federation.strategy.lr: unknown key"),
    ],
)
def test_a_strategy_that_is_not_there_is_named_in_one_line(tiny, asked, right):
    with pytest.raises(RequestError) as caught:
        loads(tiny.replace("rounds = 3", f"rounds = 3\n{asked}"))
    assert right in str(caught.value)
