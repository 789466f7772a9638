"""One client never ends a run: whatever it sends, it alone is left out, in one line, and the others train on."""

import io
import json

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedinv import roles
from fedinv.engines import inline
from fedinv.federation import wire
from fedinv.federation.compression import FORM
from fedinv.scenario.reading import loads
from fedinv.storage import files

HONEST = 4


def packed(reply):
    return reply.content["update"]


def changed(reply, change):
    """The reply with each of its arrays changed."""
    arrays = {name: np.ascontiguousarray(change(array.numpy().copy())) for name, array in packed(reply).items()}
    reply.content["update"] = ArrayRecord({name: Array(values) for name, values in arrays.items()})
    return reply


def bytes_for_first(data, dtype="float32", shape=None, form="numpy.ndarray"):
    """A reply whose first array is of these bytes."""

    def hostile(reply, message):
        name, real = next(iter(packed(reply).items()))
        packed(reply)[name] = Array(dtype, tuple(real.shape) if shape is None else shape, form, data)
        return reply

    return hostile


def npy(header):
    """A .npy file of version 1 with this header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64


def metrics(examples, weight):
    def hostile(reply, message):
        reply.content["metrics"] = MetricRecord({"num-examples": examples, "weight": weight})
        return reply

    return hostile


def error(code, reason):
    return lambda reply, message: Message(Error(code, reason), reply_to=message)


def raising(what):
    def hostile(reply, message):
        raise what

    return hostile


def poisoned(value):
    def change(values):
        values.reshape(-1)[0] = value
        return values

    return lambda reply, message: changed(reply, change)


def forged(name, value):
    def hostile(reply, message):
        reply.metadata.__dict__[name] = value
        return reply

    return hostile


def renamed(reply, message):
    names = {name + "\x1b[31m\ud800": array for name, array in packed(reply).items()}
    packed(reply).__dict__["_data"].clear()
    packed(reply).__dict__["_data"].update(names)
    return reply


def crowded(reply, message):
    packed(reply).__dict__["_data"].update(dict.fromkeys((f"z{i}" for i in range(20_000)), Array(np.zeros(1))))
    return reply


def archive():
    sink = io.BytesIO()
    np.savez(sink, a=np.zeros(3))
    return sink.getvalue()


TRAIN = {
    "returns none": lambda reply, message: None,
    "returns text": lambda reply, message: "hello",
    "another's name": forged("_src_node_id", 1000),
    "a node that is not there": forged("_src_node_id", 999999),
    "answers another message": forged("_reply_to_message_id", "nonsense"),
    "no content": lambda reply, message: Message(RecordDict(), reply_to=message),
    "update of another kind": lambda reply, message: reply.content.__setitem__("update", ConfigRecord()) or reply,
    "no metrics": lambda reply, message: reply.content.__delitem__("metrics") or reply,
    "raises memory": raising(MemoryError()),
    "raises recursion": raising(RecursionError("deep")),
    "raises exit": raising(SystemExit(3)),
    "raises surrogates": raising(ValueError("\ud800\x1b]0;pwned\x07")),
    "error without reason": error(1, None),
    "error of line breaks": error(1, "\n\n\n"),
    "error of escape codes": error(1, "\x1b[31mred"),
    "error of any length": error(1, "x" * 5_000_000),
    "error of no code": error(-5, "neg"),
    "names with escape codes": renamed,
    "20,000 more": crowded,
    "flat": lambda reply, message: changed(reply, lambda values: values.reshape(-1)[:1]),
    "float64": lambda reply, message: changed(reply, lambda values: values.astype("float64")),
    "uint32": lambda reply, message: changed(reply, lambda values: np.ones(values.shape, "uint32")),
    "int64": lambda reply, message: changed(reply, lambda values: np.ones(values.shape, "int64")),
    "complex": lambda reply, message: changed(reply, lambda values: values.astype("complex64")),
    "text": lambda reply, message: changed(reply, lambda values: values.astype("U3")),
    "nan": poisoned(np.nan),
    "infinite": poisoned(np.inf),
    "3e38": poisoned(3e38),
    "empty bytes": bytes_for_first(b""),
    "an archive": bytes_for_first(archive()),
    "no archive": bytes_for_first(b"PK\x03\x04" + b"junk" * 10),
    "header of no version": bytes_for_first(b"\x93NUMPY\x09\x00\x10\x00" + b"{}" * 8),
    "header of 2 GB": bytes_for_first(b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"{}" * 8),
    "header of no syntax": bytes_for_first(npy(b"{'descr': ((((( ")),
    "header of brackets": bytes_for_first(npy(b"(" * 9000)),
    "shape of 10^12": bytes_for_first(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }")),
    "shape of 10^30": bytes_for_first(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1%s,)}" % (b"0" * 30))),
    "shape below 0": bytes_for_first(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }")),
    "a pickle": bytes_for_first(npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")),
    "no type": bytes_for_first(b"", "nonsense"),
    "a type of 8 MB": bytes_for_first(b"", "(1000000,)f8"),
    "compact nothing": bytes_for_first(b"Z", form=FORM),
    "compact ones": bytes_for_first(b"Z" + b"\xff" * 4000, form=FORM),
    "compact levels": bytes_for_first(b"L" + b"\xff\xff" * 3000, form=FORM),
    "compact 10^12": bytes_for_first(b"Z" + b"\0" * 100, shape=(10**6, 10**6), form=FORM),
    "compact below 0": bytes_for_first(b"Z" + b"\0" * 100, shape=(-(10**6), -(10**6)), form=FORM),
    "unknown form": bytes_for_first(b"abc", form="torch.pickle\x1b"),
    "no examples": metrics(0, 6.0),
    "half an example": metrics(1.5, 6.0),
    "10^9 examples": metrics(10**9, 6.0),
    "a list": metrics([6], [6.0]),
    "no weight": metrics(6, 0.0),
    "weight nan": metrics(6, float("nan")),
    "weight 1.7e308": metrics(6, 1.7e308),
}


def running(monkeypatch, hostile, stage, text):
    """Have clients from number HONEST on behave as `hostile` has it, one kind each, in messages of one stage."""
    ways = list(hostile.values())
    module = roles.load("clients", "app")
    real = module.client_app

    def client_app(cohort=None):
        app = real(cohort)

        def answer(message, context):
            reply, client = app(message, context), int(context.node_config["partition-id"])
            if client < HONEST or message.metadata.message_type != stage:
                return reply
            return ways[(client - HONEST) % len(ways)](reply, message)

        return answer

    monkeypatch.setattr(module, "client_app", client_app)
    clients = HONEST + len(ways)
    text = text.replace("clients = 4\n", f"clients = {clients}\n").replace("rounds = 3", "rounds = 2")
    return loads(text.replace("records = 200", f"records = {10 * clients}"))


def outcome(folder):
    progress = files.read_json(folder / "checkpoint" / "progress.json")
    return progress, files.read_tensors(folder / "checkpoint" / "model-0002.safetensors")[0]


def test_each_hostile_client_is_left_out_alone_and_in_one_line(tiny, tmp_path, monkeypatch):
    scenario = running(monkeypatch, TRAIN, "train", tiny)
    inline.train(scenario, tmp_path / "run")
    progress, model = outcome(tmp_path / "run")
    kinds = {HONEST + at: kind for at, kind in enumerate(TRAIN)}
    left_out = {one["client"]: one["reason"] for one in progress["left_out"]}
    assert {kinds.get(client, client) for client in left_out} == set(TRAIN)
    assert progress["used"] == 2 * HONEST
    for client, reason in left_out.items():
        assert len(reason) <= 320, kinds[client]
        assert reason.isprintable(), kinds[client]
    assert all(bool(tensor.isfinite().all()) for tensor in model.values())


def test_the_others_train_as_if_it_had_not_been_there(tiny, tmp_path, monkeypatch):
    declined = {kind: error(1, "away") for kind in TRAIN}
    with monkeypatch.context() as patch:
        inline.train(running(patch, declined, "train", tiny), tmp_path / "away")
    inline.train(running(monkeypatch, TRAIN, "train", tiny), tmp_path / "there")
    (_, away), (_, there) = outcome(tmp_path / "away"), outcome(tmp_path / "there")
    assert all(torch.equal(away[name], there[name]) for name in away)


def node(**said):
    def hostile(reply, message):
        told = {**reply.content["node"], **said}
        content = ConfigRecord({key: value for key, value in told.items() if value is not None})
        return Message(RecordDict({"node": content}), reply_to=message)

    return hostile


OTHER = '{"columns":[{"kind":"continuous","name":"<b>","mean":0,"std":1,"low":0,"high":1,"mode":0}],"label":"y","classes":["a","b"]}'  # noqa: E501
REGISTER = {
    "below 0": node(**{"partition-id": -1}),
    "another's": node(**{"partition-id": 0}),
    "text": node(**{"partition-id": "x"}),
    "beyond all": node(**{"partition-id": 10**9}),
    "true": node(**{"partition-id": True}),
    "none": node(**{"partition-id": None}),
    "no record": lambda reply, message: Message(RecordDict(), reply_to=message),
    "no schema": node(schema="{"),
    "another schema": node(schema=OTHER),
    "a schema in bytes": node(schema=b"{}"),
    "error": error(1, "boo\x1b[31m\nmore"),
    "nothing": lambda reply, message: None,
}


def test_whoever_registers_badly_takes_no_part(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(roles.load("server", "registration"), "QUIET_SECONDS", 0.1)
    scenario = running(monkeypatch, REGISTER, "query.register", tiny)
    inline.train(scenario, tmp_path / "run")
    progress, _ = outcome(tmp_path / "run")
    assert {one["client"] for one in progress["left_out"]} == set(range(HONEST, HONEST + len(REGISTER)))
    assert all("takes no part" in one["reason"] and one["reason"].isprintable() for one in progress["left_out"])


def ledger(text):
    return lambda reply, message: Message(RecordDict({"ledger": ConfigRecord({"events": text})}), reply_to=message)


GOOD = {
    "noise_multiplier": 1.0,
    "sampling_rate": 0.5,
    "steps": 2,
    "delta": 1e-5,
    "unit": "example",
    "neighbors": "add-or-remove-one",
    "mechanism": "dp-sgd",
}
LEDGER = {
    "no JSON": ledger("{"),
    "deep": ledger("[" * 100_000),
    "a number": ledger("5"),
    "unknown key": ledger(json.dumps([{**GOOD, "evil": 1}])),
    "missing keys": ledger('[{"steps": 1}]'),
    "not a number": ledger(json.dumps([{**GOOD, "noise_multiplier": float("nan")}])),
    "steps of 10^30": ledger(json.dumps([{**GOOD, "steps": 10**30}])),
    "delta of 2": ledger(json.dumps([{**GOOD, "delta": 2.0}])),
    "unknown unit": ledger(json.dumps([{**GOOD, "unit": "<script>"}])),
    "error": error(1, "no"),
    "nothing": lambda reply, message: None,
}


def test_a_ledger_that_cannot_be_read_is_missing_and_said(tiny, tmp_path, monkeypatch):
    scenario = running(monkeypatch, LEDGER, "query.ledger", tiny + '[[defenses]]\nkind = "clip-noise"\n')
    inline.train(scenario, tmp_path / "run")
    charged = files.read_json(tmp_path / "run" / "ledger.json")
    assert charged["silent"] == list(range(HONEST, HONEST + len(LEDGER)))
    assert set(charged["clients"]) == {str(client) for client in range(HONEST)}


@pytest.mark.parametrize("defense", ["masking", "secagg-plus", "central-dp", "top-k"])
def test_behind_a_defense_the_run_goes_on_too(tiny, tmp_path, monkeypatch, defense):
    scenario = running(monkeypatch, TRAIN, "train", f'{tiny}[[defenses]]\nkind = "{defense}"\n')
    fallen = None
    try:
        inline.train(scenario, tmp_path / "run")
    except Exception as error:
        fallen = str(error)
    if defense in ("central-dp", "top-k"):
        assert fallen is None
        assert outcome(tmp_path / "run")[0]["used"] == 2 * HONEST
    else:  # a sum over everyone needs everyone, and says so
        assert fallen is not None
        assert "no client's update could be used in any round" in fallen


def test_a_header_that_another_numpy_wrote_is_read(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for array in (values, np.asfortranarray(values)):
        sink = io.BytesIO()
        np.lib.format.write_array(sink, array, version=(2, 0))
        read = wire.unpack(ArrayRecord({"w": Array("float32", (2, 3), "numpy.ndarray", sink.getvalue())}))
        assert torch.equal(read["w"], torch.from_numpy(values))
