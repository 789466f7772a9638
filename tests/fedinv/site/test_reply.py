"""What leaves is built by the site, within the policy; what is refused is refused by a rule that quotes nothing."""

import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedinv.site.flower import Refused
from fedinv.site.policy import Policy, parse
from fedinv.site.reply import NAMES, vetted

SECRET = "patient-4711"


def refused(policy, sent, reply, kind="train", read=None):
    with pytest.raises(Refused) as raised:
        vetted(policy, kind, sent, reply, read)
    assert SECRET not in str(raised.value)
    return f"{raised.value}: {raised.value.detail}"


def test_an_update_of_what_was_sent_passes_as_it_is(sent, back, records):
    passed = vetted(Policy(), "train", sent, records(back(), {"num-examples": 32}))
    assert (passed.noised, passed.share) == (False, None)
    assert list(passed.records) == ["arrays", "metrics"]
    assert list(passed.records["arrays"]) == ["w", "b", "steps"]
    np.testing.assert_array_equal(passed.records["arrays"]["w"].numpy(), back()["w"])
    assert dict(passed.records["metrics"]) == {"num-examples": 32}


def test_order_and_padding_carry_nothing(sent, back, records):
    one = records(dict(reversed(back().items())), {"num_examples": 1, "num-examples": 2})
    array = one["arrays"]["w"]
    padded = array.data[:8] + (246).to_bytes(2, "little") + array.data[10:127] + b" " * 128 + array.data[127:]
    one["arrays"]["w"] = Array("float32", (2, 3), array.stype, padded)
    other = records(back(), {"num-examples": 2, "num_examples": 1})
    found = [vetted(Policy(), "train", sent, reply).records for reply in (one, other)]
    assert found[0].object_id == found[1].object_id
    assert list(found[0]["metrics"]) == ["num-examples", "num_examples"]
    names = ["fitres.metrics", "evaluateres.metrics"]
    for listed in (names, names[::-1]):
        passed = vetted(Policy(), "train", sent, records(configs={name: {} for name in listed}))
        assert list(passed.records) == sorted(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({SECRET: np.ones(2)}, "an array is not allowed: 'patient-4711': it was not sent down"),
        ({"w": np.ones((3, 2), np.float32)}, "another shape or type"),
        ({"w": np.ones((2, 3), np.float64)}, "another shape or type.*float64 .2, 3., not float32"),
        ({"w": np.full((2, 3), np.nan, np.float32)}, "not finite: w"),
        ({"w": np.array([["a"]])}, "no array of numbers"),
        ({"w": None}, "did not come back: 'w'"),
    ],
)
def test_other_arrays_are_refused(sent, back, records, change, words):
    arrays = {name: one for name, one in {**back(), **change}.items() if one is not None}
    said = refused(Policy(), sent, records(arrays, {"num-examples": 1}))
    assert re.search(words, said), said


def test_arrays_that_are_named_may_come_back_alone(sent, back, records):
    rules = parse({"arrays": {"allow": [{"name": "w", "shape": [2, 3], "dtype": "float32"}]}})
    reply = records({"w": back()["w"]})
    assert list(vetted(rules, "train", sent, reply).records["arrays"]) == ["w"]
    assert "add it to arrays.allow" in refused(rules, sent, records(back()))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({SECRET: 1.0}, "a metric is not allowed: 'patient-4711': write patient-4711 = \"float\""),
        ({"n": 1.5}, "of a type that is not allowed: n: must be of type int"),
        ({"n": 0}, "out of its bounds: n: must be at least 1"),
        ({"n": 501}, "out of its bounds: n: must be at most 500"),
        ({"loss": float("nan")}, "a metric is not finite: loss"),
        ({"loss": [0.1, 0.2]}, "too many numbers: loss: at most 1"),
        ({"loss": [0.1]}, "too many numbers"),
        ({"curve": [0.1] * 4}, "too many numbers: curve: at most 3"),
    ],
)
def test_other_metrics_are_refused(sent, back, records, metrics, words):
    rules = parse(
        {
            "metrics": {
                "n": {"type": "int", "least": 1, "most": 500},
                "loss": "float",
                "curve": {"type": "float", "items": 3},
            }
        }
    )
    assert words in refused(rules, sent, records(back(), metrics))
    kept = {"n": 7, "loss": 1, "curve": [0.1, 0.2]}
    assert dict(vetted(rules, "evaluate", sent, records(None, kept)).records["metrics"]) == kept


def test_a_metric_may_be_sent_as_a_constant(sent, back, records):
    rules = parse({"metrics": {"num-examples": {"type": "int", "send": 100}}})
    passed = vetted(rules, "train", sent, records(back(), {"num-examples": 4711}))
    assert passed.records["metrics"]["num-examples"] == 100


@pytest.mark.parametrize("value", [SECRET, SECRET.encode(), True, [SECRET]])
def test_texts_and_bytes_in_a_configuration_are_refused(sent, back, records, value):
    rules = parse({"metrics": {"n": {"type": "int", "items": 2}}, "reply": {"names": ["config"]}})
    assert "of a type that is not allowed" in refused(rules, sent, records(back(), configs={"config": {"n": value}}))


def test_records_are_few_and_of_known_names(sent, back, records):
    assert "has a name that is not allowed" in refused(Policy(), sent, records(back(), configs={SECRET: {}}))
    many = records(back(), {}, {f"fitres.{one}": {} for one in ("metrics", "num_examples", "loss")})
    assert "too many records: 5, at most 4" in refused(Policy(), sent, many)


def test_only_messages_that_the_policy_names_are_answered_and_only_trainings_bring_arrays(sent, back, records):
    said = refused(Policy(), sent, records(None, {"num-examples": 1}), "query.who")
    assert "of this kind are not answered: 'query.who': add it to reply.messages" in said
    assert "only a training may send arrays back" in refused(Policy(), sent, records(back()), "evaluate")
    assert vetted(Policy(), "train.probe", sent, records(back())).share is None


def test_the_status_of_the_older_interface_is_a_code_and_a_known_text(sent, records):
    good = {"fitres.status": {"code": 0, "message": "Success"}}
    assert dict(vetted(Policy(), "train", sent, records(configs=good)).records["fitres.status"]) == {
        "code": 0,
        "message": "Success",
    }
    text, code, more = (
        {"code": 0, "message": SECRET},
        {"code": 4711, "message": ""},
        {"code": 0, "message": "", SECRET: 1},
    )
    for status in (text, code, more):
        assert "the status" in refused(Policy(), sent, records(configs={"fitres.status": status}))


def test_the_attack_sees_what_would_leave(sent, back, records):
    document = {"gate": {"network": "a:b", "limit": 0.25}, "update": {"clip": 0.1}}
    seen = []

    def read(down, leaving, claimed):
        seen.append((dict(down), dict(leaving), claimed))
        return share

    for share in (0.0, 0.25):
        passed = vetted(parse(document), "train", sent, records(back(), {"num-examples": 7}), read)
        assert passed.share == share
    share = 0.26
    said = refused(parse(document), sent, records(back(), {"num-examples": 7}), read=read)
    assert "than this site allows: at least 26.0 % can be read, gate.limit is 25 %" in said
    share = float("nan")
    assert "than this site allows" in refused(parse(document), sent, records(back()), read=read)
    share = "no network"
    assert "could not be attacked: no network" in refused(parse(document), sent, records(back()), read=read)
    down, leaving, claimed = seen[0]
    assert claimed == 7
    change = np.concatenate([(leaving[name] - down[name]).ravel() for name in ("w", "b")])
    assert float(np.linalg.norm(change)) == pytest.approx(0.1, rel=1e-5)
    document["update"]["sends"] = "changes"
    share = 0.0
    vetted(parse(document), "train", sent, records(back(), {"num-examples": 7}), read)
    down, leaving, _ = seen[-1]
    np.testing.assert_allclose(leaving["w"] - down["w"], 0.1 * 1.5 / np.sqrt(6 * 1.5**2 + 2 * 0.25), rtol=1e-4)


SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
TYPES = st.sampled_from(["float32", "float64", "int64", "uint8", "bool"])
NUMBERS = st.one_of(st.integers(-(2**62), 2**62), st.floats())
VALUES = st.one_of(NUMBERS, st.text(max_size=5), st.binary(max_size=5), st.lists(st.floats(), max_size=4))
KEYS = st.one_of(st.sampled_from(["w", "b", "steps", "num-examples", "loss"]), st.text(min_size=1, max_size=5))
RECORDS = st.one_of(st.sampled_from(["arrays", "metrics", "fitres.status"]), st.text(max_size=5))


@st.composite
def replies(draw):
    found = RecordDict()
    for name in draw(st.lists(RECORDS, max_size=4, unique=True)):
        sort = draw(st.integers(0, 2))
        if sort == 0:
            shapes = draw(st.dictionaries(KEYS, st.tuples(SHAPES, TYPES), max_size=4))
            found[name] = ArrayRecord({key: Array(np.ones(shape, dtype)) for key, (shape, dtype) in shapes.items()})
        elif sort == 1:
            found[name] = MetricRecord(draw(st.dictionaries(KEYS, NUMBERS, max_size=3)))
        else:
            found[name] = ConfigRecord(draw(st.dictionaries(KEYS, VALUES, max_size=3)))
    return found


RULES = parse({"metrics": {"num-examples": "int", "loss": "float"}, "reply": {"texts": []}})
SENT = RecordDict(
    {"arrays": ArrayRecord({"w": Array(np.ones((2, 3), np.float32)), "steps": Array(np.asarray(np.int64(5)))})}
)


@given(replies(), st.sampled_from(["train", "evaluate", "query"]))
def test_whatever_an_app_replies_nothing_else_leaves(reply, kind):
    try:
        passed = vetted(RULES, kind, SENT, reply)
    except Refused:
        return
    assert kind != "query"
    for name, record in passed.records.items():
        assert name in NAMES
        if isinstance(record, ArrayRecord):
            shapes = {key: (one.shape, one.dtype) for key, one in record.items()}
            assert not shapes or (kind == "train" and shapes == {"w": ((2, 3), "float32"), "steps": ((), "int64")})
        else:
            assert set(record) <= {"num-examples", "loss"}
            assert all(isinstance(one, int | float) and np.isfinite(float(one)) for one in record.values())
