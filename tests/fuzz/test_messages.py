"""Replies with anything in them: each is used or refused, in one line, and nothing is raised or made large."""

import io
from contextlib import suppress

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedinv import roles
from fedinv.federation.compression import FORM, decode, encode
from fedinv.privacy import ledger

pytestmark = pytest.mark.usefixtures("task_identity")

SENT = {"0.weight": torch.zeros(8, 3), "0.bias": torch.zeros(8)}
TYPES = [
    "float32",
    "float64",
    "float16",
    "int64",
    "uint32",
    "int8",
    "bool",
    "complex64",
    "U3",
    "S3",
    "O",
    "V8",
    "i4,f8",
    "(9,)f4",
    ">f4",
    "datetime64[s]",
    "nonsense",
    "",
]
FORMS = ["numpy.ndarray", FORM, "torch.pickle", "", "\x1b[31m"]
SHAPES = st.one_of(
    st.sampled_from([(8, 3), (8,), (), (24,), (-1,), (10**12,), (10**30,), (0, 10**12), (2**63, 2**63)]),
    st.lists(st.integers(-3, 10), max_size=3).map(tuple),
)


def npy(array):
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def headed(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADERS = st.builds(
    lambda kind, shape, order: headed(f"{{'descr': {kind!r}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()),
    st.sampled_from(TYPES),
    SHAPES,
    st.sampled_from(["False", "True", "1", "None"]),
)
NUMBERS = st.floats(width=32) | st.sampled_from([1e38, -3e38, 5e-45])
BODIES = st.one_of(
    st.binary(max_size=200),
    st.lists(NUMBERS, min_size=24, max_size=24).map(lambda v: npy(np.array(v, np.float32).reshape(8, 3))),
    st.builds(lambda head, rest: head + rest, HEADERS, st.binary(max_size=100)),
    st.text("()[]{},:'\"0\\", max_size=400).map(lambda text: headed(text.encode())),
    st.builds(
        lambda kind, rest: kind + rest, st.sampled_from([b"Z", b"V", b"L", b"PK\x03\x04"]), st.binary(max_size=200)
    ),
)
ARRAYS = st.builds(Array, st.sampled_from(TYPES), SHAPES, st.sampled_from(FORMS), BODIES)
RIGHT = st.builds(
    lambda values: Array(np.array(values, np.float32).reshape(8, 3)), st.lists(NUMBERS, min_size=24, max_size=24)
)
COUNTS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(), st.lists(st.integers(0, 9), max_size=2))


def reply_of(content):
    return Message(content, reply_to=Message(RecordDict(), 1, "train"))


@st.composite
def replies(draw):
    """A reply of the right form up to some of its parts."""
    named = draw(st.sampled_from([["0.weight", "0.bias"]] * 5 + [["0.bias", "0.weight"], [], ["x\ud800", "\x1b[31m"]]))
    update = ArrayRecord()
    for name in named:
        update.__dict__["_data"][name] = draw(
            ARRAYS | RIGHT if name == "0.weight" else ARRAYS | st.just(Array(np.zeros(8, np.float32)))
        )
    metrics = MetricRecord({"num-examples": draw(st.just(6) | COUNTS), "weight": draw(st.just(6.0) | COUNTS)})
    content = {"update": update, "metrics": metrics}
    how = draw(st.sampled_from(["whole"] * 6 + ["error", "missing", "other"]))
    if how == "error":
        error = Error(draw(st.integers(-(2**31), 2**31 - 1)), draw(st.none() | st.text()))
        return Message(error, reply_to=Message(RecordDict(), 1, "train"))
    if how == "missing":
        del content[draw(st.sampled_from(sorted(content)))]
    if how == "other":
        content[draw(st.sampled_from(sorted(content)))] = ConfigRecord({"a": draw(st.text(max_size=3))})
    return reply_of(RecordDict(content))


def test_replies_are_used_or_refused_in_one_line(law, examples):
    wiretap = roles.load("server", "wiretap")

    @examples(80)
    @given(replies(), st.none() | st.integers(1, 10**6))
    def holds(reply, most):
        read, size = law(lambda: wiretap.read(reply, SENT, most))
        assert size >= 0
        if isinstance(read, wiretap.Refusal):
            assert read.reason.isprintable()
            assert len(read.reason) < 320
        else:
            assert [tuple(tensor.shape) for tensor in read.update.values()] == [(8, 3), (8,)]
            assert all(bool(tensor.isfinite().all()) for tensor in read.update.values() if tensor.is_floating_point())
            assert 0 < read.weight < 2**32

    holds()


def test_compressed_bytes_are_read_or_refused(examples):
    @examples(80)
    @given(
        st.builds(
            lambda kind, rest: kind + rest,
            st.sampled_from([b"", b"Z", b"V", b"L", b"ZL", b"ZV"]),
            st.binary(max_size=300),
        ),
        SHAPES,
    )
    def holds(data, shape):
        with suppress(ValueError):
            decode(data, np.dtype(np.float32), shape)

    holds()

    @examples(50)
    @given(st.lists(NUMBERS.filter(lambda v: v == v), min_size=64, max_size=200), st.floats(0, 1))
    def round_trip(values, zeros):
        array = np.array(values, np.float32)
        array[: int(zeros * len(array))] = 0
        small = encode(array)
        assert small is None or np.array_equal(decode(small, array.dtype, array.shape), array)

    round_trip()


def test_ledgers_are_read_or_refused(examples):
    good = '[{"noise_multiplier": 1.0, "sampling_rate": 0.5, "steps": 2, "delta": 1e-5, "unit": "example", "neighbors": "replace-one", "mechanism": "m"}]'  # noqa: E501

    @examples(60)
    @given(
        st.one_of(
            st.text(max_size=40),
            st.integers(0, len(good)).map(lambda at: good[:at] + "[" * 30_000),
            st.builds(
                good.replace,
                st.sampled_from(["1.0", "0.5", "2", "1e-5", '"m"']),
                st.sampled_from(["-1", "NaN", "1e400", "[]", "null", "9" * 5000]),
            ),
        )
    )
    def holds(text):
        try:
            found = ledger.read(text)
        except (ValueError, RecursionError):
            return
        assert all(event.noise_multiplier >= 0 and event.steps >= 0 for event in found)

    holds()


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J", "\u202eabc", "a\u2028b", "x" * 10**6])
def test_texts_from_outside_are_plain(text):
    from fedinv.errors import plain

    said = plain(text)
    assert said.isprintable()
    assert len(said) <= 200
    said.encode()
