"""A server may send anything: the client that was sent it refuses in one line, and the others train on."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from fedinv import roles
from fedinv.engines import inline
from fedinv.federation import wire
from fedinv.scenario.reading import loads
from fedinv.storage import files

HONEST = 2


def weights_with(change):
    """A message's content whose weights are changed by name."""

    def hostile(content):
        arrays = {name: torch.from_numpy(array.numpy().copy()) for name, array in content["arrays"].items()}
        return RecordDict({**content, "arrays": wire.pack(change(arrays))})

    return hostile


def entry(value):
    def change(arrays):
        arrays["2.bias"][3] = value
        return arrays

    return weights_with(change)


def without(record):
    return lambda content: RecordDict({name: one for name, one in content.items() if name != record})


def first_array(array):
    return lambda content: RecordDict(
        {**content, "arrays": ArrayRecord({**content["arrays"], next(iter(content["arrays"])): array})}
    )


def config(**said):
    return lambda content: RecordDict({**content, "config": ConfigRecord({**content["config"], **said})})


HOSTILE = {
    "nan": (entry(float("nan")), "sent weights for 2.bias that are not finite"),
    "infinite": (entry(float("inf")), "sent weights for 2.bias that are not finite"),
    "another shape": (
        weights_with(lambda arrays: {**arrays, "0.bias": torch.zeros(3)}),
        "sent float32 of the shape (3,) for 0.bias instead of float32 of the shape (32,)",
    ),
    "another type": (
        weights_with(lambda arrays: {**arrays, "0.bias": arrays["0.bias"].double()}),
        "sent float64 of the shape (32,) for 0.bias instead of float32 of the shape (32,)",
    ),
    "another name": (
        weights_with(lambda arrays: {"a\x1b[31m" if name == "0.bias" else name: t for name, t in arrays.items()}),
        "sent no 0.bias and sent a?[31m, which the model does not have",
    ),
    "one missing": (
        weights_with(lambda arrays: {name: t for name, t in arrays.items() if name != "0.bias"}),
        "sent no 0.bias",
    ),
    "another order": (
        weights_with(lambda arrays: dict(reversed(arrays.items()))),
        "sent the model's parameters in another order",
    ),
    "no bytes": (first_array(Array("float32", (32, 63), "numpy.ndarray", b"")), "sent weights that cannot be read"),
    "no weights": (without("arrays"), "sent no weights"),
    "nothing": (lambda content: RecordDict(), "sent no round and cohort to train for"),
    "no round": (config(round="one"), "sent a round or a cohort that is not one of whole numbers"),
    "round 0": (config(round=0), "sent a round or a cohort that is not one of whole numbers"),
    "no cohort": (config(cohort=[0.5]), "sent a round or a cohort that is not one of whole numbers"),
}


@pytest.fixture
def hostile_run(tiny, tmp_path, monkeypatch):
    """A run whose server sends client HONEST + i what the i-th way of HOSTILE makes of its message."""
    strategy = roles.load("server", "strategy").WiretapFedAvg
    real = strategy.configure_train
    ways = [way for way, _ in HOSTILE.values()]

    def configure_train(self, server_round, arrays, settings, grid):
        messages = list(real(self, server_round, arrays, settings, grid))
        for message, way in zip(messages[HONEST:], ways, strict=True):
            # the inline grid shares containers between messages
            message.__dict__["_content"] = way(RecordDict(dict(message.content)))
        return messages

    monkeypatch.setattr(strategy, "configure_train", configure_train)
    clients = HONEST + len(ways)
    text = tiny.replace("clients = 4\n", f"clients = {clients}\n").replace("rounds = 3", "rounds = 2")
    inline.train(loads(text.replace("records = 200", f"records = {10 * clients}")), tmp_path / "run")
    return tmp_path / "run"


def test_each_client_that_was_sent_what_is_no_model_refuses_in_one_line_and_the_others_train_on(hostile_run):
    progress = files.read_json(hostile_run / "checkpoint" / "progress.json")
    assert progress["used"] == 2 * HONEST
    reasons = {one["client"]: one["reason"] for one in progress["left_out"] if one["round"] == 1}
    assert set(reasons) == set(range(HONEST, HONEST + len(HOSTILE)))
    for at, (kind, (_, said)) in enumerate(HOSTILE.items()):
        reason = reasons[HONEST + at]
        assert reason.startswith(f"refused the round: the server {said}"), kind
        assert len(reason) <= 320, kind
        assert reason.isprintable(), kind
    model = files.read_tensors(hostile_run / "checkpoint" / "model-0002.safetensors")[0]
    assert all(bool(tensor.isfinite().all()) for tensor in model.values())


def test_weights_are_read_without_a_copy_and_overflowing_sums_of_finite_ones_are_no_reason_to_refuse(tiny):
    received = roles.load("clients", "received")
    scenario = loads(tiny)
    people = roles.load("clients", "training.job").population_of(scenario)
    shape, outputs = people.schema.shape, people.schema.outputs
    made = {name: torch.full(size, 3e38) for name, size in received.shapes(scenario.model, shape, outputs).items()}
    arrays, tensors = received.weights(RecordDict({"arrays": wire.pack(made)}), scenario.model, shape, outputs)
    assert list(arrays) == list(tensors)
    assert all(np.shares_memory(tensors[name].numpy(), np.frombuffer(arrays[name].data, "u1")) for name in made)
