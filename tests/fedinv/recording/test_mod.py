import logging

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

import fedinv
from fedinv.errors import RequestError
from fedinv.recording.grid import LocalGrid


def keys(folder):
    found = fedinv.open_recording(folder)
    return [
        (one.round, one.node, one.kind, one.asked.arrays, one.answered and one.answered.arrays)
        for one in found.exchanges
    ]


@pytest.fixture
def site(tmp_path, echoing):
    """A tapped Grid whose three clients record too, each for itself or all in one folder."""
    app = echoing([fedinv.tap_mod(tmp_path / "site")])
    return fedinv.tap(LocalGrid(app, 3, {}, lambda message, reply: None), tmp_path / "server")


def test_server_and_site_have_the_same_digests(site, asked, tmp_path):
    for round_ in (1, 2):
        site.send_and_receive(asked(round_, **{"server-round": round_}))
    assert keys(tmp_path / "server") == keys(tmp_path / "site")
    assert len(keys(tmp_path / "server")) == 6
    assert keys(tmp_path / "server")[0][3] != keys(tmp_path / "server")[0][4]
    found = fedinv.open_recording(tmp_path / "site")
    assert found.side == "client"
    assert [one.partition for one in found.updates] == [0, 1, 2] * 2
    assert {path.name for path in (tmp_path / "site/wire").glob("*.safetensors")} == {
        path.name for path in (tmp_path / "server/wire").glob("*.safetensors")
    }


def test_rounds_that_nobody_names_are_counted_by_client(site, asked, tmp_path):
    for nodes in ((0, 1), (1, 2), (1,)):
        site.send_and_receive(asked(1, nodes=nodes))
    site.send_and_receive(asked(1, nodes=(1,), kind="query.who"))
    rounds = [(one.partition, one.round) for one in fedinv.open_recording(tmp_path / "site").exchanges]
    assert rounds == [(0, 1), (1, 1), (1, 2), (2, 1), (1, 3), (1, 3)]


def test_an_app_that_raises_is_noted_and_raises(site, asked, tmp_path):
    site.send_and_receive(asked(1, fails=1))
    assert [one.error for one in fedinv.open_recording(tmp_path / "site").exchanges] == [
        None,
        "ValueError: the cat sat on it",
        None,
    ]
    assert "the cat sat" in fedinv.open_recording(tmp_path / "server").exchanges[1].error


def test_a_fault_does_not_touch_the_reply(echoing, asked, tmp_path, monkeypatch):
    app = echoing([fedinv.tap_mod(tmp_path / "site")])
    monkeypatch.setattr("fedinv.recording.writer.Writer.open", lambda self, side: 1 / 0)
    replies = LocalGrid(app, 3, {}, lambda message, reply: None).send_and_receive(asked(4))
    assert [float(reply.content["arrays"]["w"].numpy().max()) for reply in replies] == [5, 5, 5]
    assert not (tmp_path / "site").exists()


def test_ray_may_send_the_mod_to_another_process(echoing, asked, tmp_path):
    from ray import cloudpickle

    app = echoing([fedinv.tap_mod(tmp_path / "site", rounds=[2])])
    LocalGrid(app, 1, {}, lambda message, reply: None).send_and_receive(asked(1, nodes=(0,), **{"server-round": 2}))
    again = cloudpickle.loads(cloudpickle.dumps(app))
    grid = LocalGrid(again, 1, {}, lambda message, reply: None)
    for round_ in (2, 3):
        grid.send_and_receive(asked(1, nodes=(0,), **{"server-round": round_}))
    assert [one.round for one in fedinv.open_recording(tmp_path / "site").exchanges] == [2, 2]
    assert (tmp_path / "site/wire/messages.jsonl").read_text().count('"opened"') == 1


def test_server_and_client_do_not_mix_in_one_folder(echoing, asked, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    app = echoing([fedinv.tap_mod(tmp_path)])
    local = LocalGrid(app, 3, {}, lambda message, reply: None)
    fedinv.tap(local, tmp_path).send_and_receive(asked(1))
    assert caplog.text.count("holds a server's recording: name another folder") == 1
    assert len(fedinv.open_recording(tmp_path).updates) == 3
    fedinv.tap(local, tmp_path)
    fedinv.tap_mod(tmp_path / "other")(asked(1)[0], local._contexts[1000], app)
    with pytest.raises(RequestError, match="holds a client's recording: name another folder"):
        fedinv.tap(local, tmp_path / "other")


def test_a_folder_that_cannot_be_used_where_the_message_is_handled_is_said_once(
    echoing, asked, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    app = echoing([fedinv.tap_mod(tmp_path / "site")])
    (tmp_path / "site").touch()
    grid = LocalGrid(app, 3, {}, lambda message, reply: None)
    assert not any(reply.has_error() for reply in grid.send_and_receive(asked(1)))
    assert caplog.text.count("could not be recorded") == 1


def test_rounds_may_be_chosen_and_the_mods_place_decides_what_is_seen(echoing, asked, tmp_path):
    def hides(message, context, call_next):
        reply = call_next(message, context)
        return Message(RecordDict({"config": ConfigRecord({"hidden": 1})}), reply_to=message) if reply else reply

    app = echoing([fedinv.tap_mod(tmp_path / "left", rounds=2), hides, fedinv.tap_mod(tmp_path / "own", rounds=[2])])
    grid = LocalGrid(app, 3, {}, lambda message, reply: None)
    for round_ in (1, 2):
        grid.send_and_receive(asked(round_, nodes=(0,), **{"server-round": round_}))
    (left,) = fedinv.open_recording(tmp_path / "left").exchanges
    (own,) = fedinv.open_recording(tmp_path / "own").exchanges
    assert (left.round, left.received, left.metrics) == (2, {}, {"hidden": 1})
    assert own.received["n"].item() == 3
