import copy
import logging
import resource

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict

import fedinv
from fedinv.errors import RequestError
from fedinv.recording.grid import LocalGrid
from fedinv.recording.writer import Writer


def errors(folder):
    return [one.error for one in fedinv.open_recording(folder).exchanges]


def test_each_message_is_kept_with_its_reply_and_a_global_model_once(local, asked, tmp_path):
    grid = fedinv.tap(local, tmp_path / "run")
    for round_ in (1, 2):
        messages = asked(round_, **{"server-round": round_, "lr": 0.5, "who": "you", "key": b"secret", "sizes": [3, 4]})
        replies = list(grid.send_and_receive(iter(messages)))
        assert len(replies) == 3
    found = fedinv.open_recording(tmp_path / "run")
    assert (found.side, found.skipped) == ("server", ())
    assert [(one.round, one.node, one.kind) for one in found.updates] == [
        (round_, node, "train") for round_ in (1, 2) for node in local.get_node_ids()
    ]
    for one in found.updates:
        assert list(one.sent) == ["w", "n"]
        assert one.sent["w"].tolist() == [[one.round] * 3] * 2
        assert one.received["w"].tolist() == [[one.round + 1] * 3] * 2
        assert one.received["n"].item() == one.round + 1
        assert str(one.received["n"].dtype) == "torch.int64"
        assert one.claimed_records == 7
        assert np.isnan(one.metrics["loss"])
        assert (one.config["lr"], one.config["who"], one.config["sizes"]) == (0.5, "you", (3, 4))
        assert (one.config["key"].bytes, one.partition, one.error) == (6, None, None)
        with pytest.raises(TypeError):
            one.sent["w"] = None
    files = list((tmp_path / "run/wire").glob("*.safetensors"))
    # round 1 sends 1 and gets 2 from all; round 2 sends just that, and gets 3
    assert len(files) == 3
    assert b"secret" not in b"".join(path.read_bytes() for path in (tmp_path / "run/wire").iterdir())


def test_a_model_changed_between_messages_is_not_taken_for_the_one_before(local, tmp_path):
    grid = fedinv.tap(local, tmp_path)
    arrays = ArrayRecord({"w": Array(np.zeros(2, np.float32))})
    content = RecordDict({"arrays": arrays, "config": ConfigRecord()})
    for node, value in zip(local.get_node_ids(), (0, 5, 9), strict=True):
        arrays["w"] = Array(np.full(2, value, np.float32))
        grid.send_and_receive([Message(content, node, "train")])
    arrays["w"].data = Array(np.full(2, 4, np.float32)).data
    grid.send_and_receive([Message(content, 1000, "train")])
    assert [one.sent["w"].tolist()[0] for one in fedinv.open_recording(tmp_path).updates] == [0, 5, 9, 4]


def test_push_and_pull_errors_and_silent_clients(local, asked, tmp_path):
    grid = fedinv.tap(local, tmp_path)
    ids = list(grid.push_messages(iter(asked(1, fails=1))))  # HttpGrid goes over its messages twice
    assert len(ids) == 3
    replies = list(grid.pull_messages(one for one in ids[:2]))
    assert [reply.has_error() for reply in replies] == [False, True]
    found = fedinv.open_recording(tmp_path)
    assert [one.error for one in found.exchanges] == [
        None,
        "<class 'ValueError'>:<'the cat sat on it'>",
        "did not reply",
    ]
    assert len(found.updates) == 1
    assert found.exchanges[1].received == {}
    grid.pull_messages(ids)
    assert errors(tmp_path)[2] is None


def test_messages_that_an_engine_does_not_accept_are_not_answered(local, asked, tmp_path, monkeypatch):
    push = local.push_messages
    monkeypatch.setattr(local, "push_messages", lambda messages: push(messages[::2]))
    grid = fedinv.tap(local, tmp_path)
    ids = list(grid.push_messages(asked(1)))
    assert len(grid.pull_messages(ids)) == 2
    assert errors(tmp_path) == [None, "did not reply", None]


def test_rounds_and_clients_may_be_chosen(local, asked, tmp_path):
    grid = fedinv.tap(local, tmp_path, rounds=[2, 3], clients=2)
    for round_ in (1, 2, 3):
        grid.send_and_receive(asked(round_, nodes=(2, 0, 1), **{"server-round": round_}))
    assert [(one.round, one.node) for one in fedinv.open_recording(tmp_path).updates] == [
        (2, 1002),
        (2, 1000),
        (3, 1002),
        (3, 1000),
    ]


def test_rounds_that_nobody_names_are_counted(local, asked, tmp_path):
    grid = fedinv.tap(local, tmp_path)
    grid.send_and_receive(asked(0, nodes=(0, 1), kind="query.who"))
    waiting = [*grid.push_messages(asked(1, nodes=(0,))), *grid.push_messages(asked(1, nodes=(1, 2)))]
    grid.pull_messages(waiting)
    grid.send_and_receive(asked(2, nodes=(2,)))
    grid.send_and_receive(asked(2, nodes=(2,), kind="query.who"))
    # twice the same client, before any reply
    grid.push_messages(asked(3, nodes=(0,)))
    grid.push_messages(asked(4, nodes=(0,)))
    found = fedinv.open_recording(tmp_path)
    assert [one.round for one in found.exchanges] == [1, 1, 1, 1, 1, 2, 2, 3, 4]
    # a group of digits is a round, as Flower's older strategies have it
    named = Message(asked(1)[0].content, 1000, "train", group_id="7")
    grid.send_and_receive([named])
    assert fedinv.open_recording(tmp_path).exchanges[-1].round == 7


def test_whatever_else_a_grid_offers_is_there(local, asked, tmp_path):
    local.extra = "mine"
    grid = fedinv.tap(local, tmp_path)
    assert grid.extra == "mine"
    assert grid.run is local.run
    assert [node.node_id for node in grid.get_nodes()] == list(grid.get_node_ids()) == [1000, 1001, 1002]
    grid.set_run(local.run)
    message = grid.create_message(RecordDict(), "query.who", 1000, "1")
    (reply,) = grid.send_and_receive([message], timeout=3.0)
    assert reply.content["seen"]["times"] == 1
    with pytest.raises(AttributeError):
        _ = grid.missing
    assert copy.copy(grid).run is local.run


def test_another_process_and_another_run_go_on_in_the_same_folder(local, asked, tmp_path):
    fedinv.tap(local, tmp_path).send_and_receive(asked(1))
    with (tmp_path / "wire/messages.jsonl").open("a") as file:
        file.write('{"event":"sent","key":"3')  # a process that was killed
    fedinv.tap(local, tmp_path).send_and_receive(asked(1))
    found = fedinv.open_recording(tmp_path)
    assert len(found.updates) == 6
    assert len(found.skipped) == 1
    assert "line 8 cannot be read and is left out" in found.skipped[0]


def test_the_folder_is_said_absolute_in_flowers_log(local, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    with caplog.at_level(logging.INFO, "flwr"):
        fedinv.tap(local, "runs/mine")
    assert f"recording what crosses the wire in {tmp_path}/runs/mine/wire" in caplog.text
    assert (tmp_path / "runs/mine/wire/messages.jsonl").is_file()


def test_a_fault_never_stops_the_training_and_is_said_once(local, asked, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    grid = fedinv.tap(local, tmp_path)
    keep = Writer.keep
    full = OSError(28, "No space left on device")

    def fails(self, parts):
        raise full

    monkeypatch.setattr(Writer, "keep", fails)
    for _ in range(2):
        assert len(list(grid.send_and_receive(asked(1)))) == 3
    said = [record.message for record in caplog.records if "could not be recorded" in record.message]
    assert len(said) == 1
    assert "No space left" in said[0]
    monkeypatch.setattr(Writer, "keep", keep)
    grid.send_and_receive(asked(5))
    assert len(fedinv.open_recording(tmp_path).updates) == 3


def test_a_disk_that_takes_no_more_costs_what_does_not_fit_alone(echoing, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    grid = fedinv.tap(LocalGrid(echoing(), 2, {}, lambda message, reply: None), tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for size in (10, 50_000, 20):
            arrays = ArrayRecord({"w": Array(np.zeros(size, np.float32))})
            content = RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": size})})
            messages = [Message(content, node, "train") for node in grid.get_node_ids()]
            assert len(list(grid.send_and_receive(messages))) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caplog.text.count("could not be recorded") == 1
    found = fedinv.open_recording(tmp_path)
    assert [(one.round, one.error) for one in found.updates] == [(10, None), (10, None), (20, None), (20, None)]
    assert found.skipped == ()


def test_a_line_that_does_not_fit_leaves_nothing_behind(local, asked, tmp_path):
    grid = fedinv.tap(local, tmp_path)
    grid.send_and_receive(asked(1))
    path = tmp_path / "wire/messages.jsonl"
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, before[1]))
    try:
        grid.send_and_receive(asked(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole


def test_a_message_without_content_is_left_to_the_engine(local, asked, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("flwr"), "propagate", True)
    pushed = []
    monkeypatch.setattr(local, "push_messages", pushed.extend)
    grid = fedinv.tap(local, tmp_path)
    bad = Message(Error(1, "no"), reply_to=asked(1)[0])
    grid.push_messages([bad])
    assert pushed == [bad]
    assert caplog.text.count("could not be recorded") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rounds": 0}, "rounds: must be whole numbers from 1"),
        ({"rounds": "all"}, "rounds: must be"),
        ({"rounds": []}, "rounds: must be"),
        ({"rounds": 1.5}, "rounds: must be"),
        ({"clients": 0}, "clients: must be a whole number from 1"),
        ({"folder": __file__}, "is a file, name a folder"),
        ({"grid": "runs/mine"}, "grid: must be the Grid .* not str"),
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(local, tmp_path, arguments, words):
    with pytest.raises(RequestError, match=words) as refused:
        fedinv.tap(**{"grid": local, "folder": tmp_path, **arguments})
    assert "\n" not in str(refused.value)
