import json

import numpy as np
import pytest

import fedinv
from fedinv.errors import RequestError
from fedinv.recording import folder as reading


@pytest.fixture
def recorded(local, asked, tmp_path):
    """Two rounds of three clients."""
    grid = fedinv.tap(local, tmp_path)
    for round_ in (1, 2):
        grid.send_and_receive(asked(10 * round_, **{"server-round": round_}))
    return tmp_path


def lines(folder):
    return (folder / "wire/messages.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(folder, found):
    (folder / "wire/messages.jsonl").write_bytes(b"".join(found))


def test_a_recording_cut_short_in_a_line_loses_that_line_alone(recorded):
    whole = lines(recorded)
    assert len(whole) == 13
    for cut in (1, len(whole[-1]) // 2, len(whole[-1]) - 2):
        rewrite(recorded, [*whole[:-1], whole[-1][:cut]])
        found = reading.read(recorded)
        assert len(found.updates) == 5
        assert found.exchanges[-1].error == "did not reply"
        (said,) = found.skipped
        assert "messages.jsonl: line 13 is cut short and is left out" in said


def test_every_cut_of_the_file_is_read_or_refused_in_a_line(recorded):
    content, first = b"".join(lines(recorded)), len(b"".join(lines(recorded)[:2])) - 1
    for cut in range(0, len(content), 97):
        (recorded / "wire/messages.jsonl").write_bytes(content[:cut])
        if cut < first:
            with pytest.raises(RequestError, match=r"\A.*\Z"):
                reading.read(recorded)
        else:
            assert len(reading.read(recorded).skipped) <= 1


def test_a_reply_whose_message_is_lost_is_named(recorded):
    found = lines(recorded)
    rewrite(recorded, [found[0], b"{}\n", *found[2:]])
    read = reading.read(recorded)
    assert len(read.updates) == 5
    assert "line 2 cannot be read" in read.skipped[0]
    assert "line 5 is the reply to a message that is not there" in read.skipped[1]


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "empty"])
def test_a_file_that_is_lost_costs_the_messages_with_it_alone(recorded, damage):
    second = reading.read(recorded).updates[-1]
    (key,) = second.answered.arrays.values()
    path = recorded / f"wire/{key}.safetensors"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"short": whole[:-3], "changed": whole[:-1] + b"\x07", "empty": b""}[damage])
    found = reading.read(recorded)
    assert [one.round for one in found.updates] == [1, 1, 1]
    assert key in found.skipped[0]
    assert all("\n" not in line for line in found.skipped)
    assert "the message of line 8 is left out with its reply, as arrays of it are lost" in found.skipped[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "holds no recording; make one with fedinv record, fedinv import or fedinv.tap"),
        ("", "is no recording of fedinv's, or of another version"),
        ("{\n", "is no recording"),
        ('{"event":"opened","format":2,"side":"server","fedinv":"9","process":1}\n', "or of another version"),
        (
            '{"event":"opened","format":1,"side":"server","fedinv":"9","process":1}\n\x00\n',
            "nothing of the recording can",
        ),
    ],
)
def test_a_folder_of_something_else_is_refused_in_a_line(tmp_path, content, words):
    if content is not None:
        (tmp_path / "wire").mkdir()
        (tmp_path / "wire/messages.jsonl").write_text(content)
    with pytest.raises(RequestError, match=words) as refused:
        reading.read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_recording_of_nothing_yet_is_empty(local, tmp_path):
    fedinv.tap(local, tmp_path)
    assert reading.read(tmp_path).exchanges == ()


def test_names_of_files_cannot_lead_out_of_the_folder(recorded):
    found = lines(recorded)
    line = json.loads(found[1])
    line["content"]["arrays"]["arrays"] = "../../etc/passwd"
    rewrite(recorded, [found[0], json.dumps(line).encode() + b"\n", *found[2:]])
    assert "line 2 cannot be read" in reading.read(recorded).skipped[0]


def test_a_count_that_is_no_number_is_no_claim(recorded):
    found = [line.replace(b'"num-examples":7', b'"num-examples":[7,8]') for line in lines(recorded)]
    rewrite(recorded, found)
    assert {one.claimed_records for one in reading.read(recorded).updates} == {None}


def test_whatever_bytes_are_changed_the_rest_is_read_or_refused_in_a_line(recorded):
    content, rng = b"".join(lines(recorded)), np.random.default_rng(0)
    kept = []
    for _ in range(150):
        changed = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        (recorded / "wire/messages.jsonl").write_bytes(changed)
        try:
            found = reading.read(recorded)
        except RequestError as refused:
            kept.append(0)
            said = [str(refused)]
        else:
            kept.append(len(found.updates))
            said = found.skipped
            for one in found.updates:
                assert set(one.sent) == set(one.received) == {"w", "n"}
        assert not any("\n" in line for line in said)
    assert max(kept) == 6
    assert np.mean([count >= 3 for count in kept]) > 0.9
