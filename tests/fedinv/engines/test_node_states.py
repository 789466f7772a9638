import pytest
import torch
from flwr.app import ConfigRecord, RecordDict

from fedinv.engines import node_states
from fedinv.errors import RunError
from fedinv.federation import wire

ONES = {"w": torch.ones(2)}


def state(number):
    return RecordDict({"kept": ConfigRecord({"number": number})})


def number(states, node):
    found = states.read(node)
    return found["kept"]["number"] if "kept" in found else None


@pytest.mark.parametrize("kept_bytes", [10**9, 0], ids=["in memory", "from the file"])
def test_states_come_back_as_they_were_after_a_round(tmp_path, monkeypatch, kept_bytes):
    monkeypatch.setattr(node_states, "KEPT_BYTES", kept_bytes)
    path = tmp_path / "checkpoint" / "nodes.sqlite"
    states = node_states.NodeStates(path, 0)
    assert len(states.read(5)) == 0
    for round_ in (1, 2, 3):
        states.keep(5, state(round_))
        if round_ == 2:
            states.keep(6, state(60))
        states.write(round_)
        assert number(states, 5) == round_
    emptied = states.read(6)
    del emptied["kept"]
    states.keep(6, emptied)
    states.keep(7, state(7))  # not written: the process is killed here
    for round_, five, six in ((3, 3, 60), (2, 2, 60)):
        again = node_states.NodeStates(path, round_)
        assert (number(again, 5), number(again, 6), number(again, 7)) == (five, six, None)
        again.close()
    states.close()
    assert number(node_states.NodeStates(path, 0), 5) is None


def test_a_state_that_was_emptied_stays_empty(tmp_path):
    path = tmp_path / "nodes.sqlite"
    states = node_states.NodeStates(path, 0)
    states.keep(1, state(1))
    states.write(1)
    states.close()
    states = node_states.NodeStates(path, 1)
    emptied = states.read(1)
    del emptied["kept"]
    states.keep(1, emptied)
    states.write(2)
    states.close()
    assert len(node_states.NodeStates(path, 2).read(1)) == 0


def test_a_damaged_file_is_named_in_one_line(tmp_path):
    path = tmp_path / "nodes.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(RunError, match=r"nodes\.sqlite") as caught:
        node_states.NodeStates(path, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kept_bytes", "spilled"), [(10**9, False), (40, True)], ids=["in memory", "no room"])
def test_what_need_not_be_resumed_is_in_the_file_only_where_memory_has_no_room(
    tmp_path, monkeypatch, kept_bytes, spilled
):
    monkeypatch.setattr(node_states, "KEPT_BYTES", kept_bytes)
    path = tmp_path / "nodes.sqlite"
    states = node_states.NodeStates(path, 0, stored=False)
    for round_ in (1, 2, 3):
        for node in (5, 6):
            kept = RecordDict({"kept": ConfigRecord({"number": 10 * round_ + node}), "sent": wire.pack(ONES)})
            states.keep(node, kept)
        states.write(round_)
        for node in (5, 6, 5):
            assert number(states, node) == 10 * round_ + node
            assert wire.unpack(states.read(node)["sent"])["w"].tolist() == [1.0, 1.0]
    assert path.exists() == spilled
    states.close()
