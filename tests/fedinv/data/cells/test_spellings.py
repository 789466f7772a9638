import numpy as np
import pytest

from fedinv.data.cells.gaps import missing
from fedinv.data.cells.spellings import unified


def column(*texts):
    return np.array(texts, dtype=object)


@pytest.mark.parametrize(
    ("texts", "one"),
    [
        (("0", "1", "1.0", "1.00", "+1"), ("0", "1", "1", "1", "1")),
        (("no", "yes", "Yes", "YES", "yes"), ("no", "yes", "yes", "yes", "yes")),
        (("a  b", "A b", "a b"), ("A b", "A b", "A b")),
        (("Cafe\u0301", "Caf\u00e9"), ("Cafe\u0301", "Cafe\u0301")),
        (("01234", "12345"), ("01234", "12345")),
        (("1E5", "100000"), ("1E5", "100000")),
        (("T", "True", "F", "True", "false", "False", "False"), ("True", "True", "False", "True", *["False"] * 3)),
        (("Y", "yes", "N", "yes", "1", "0", "N"), ("yes", "yes", "N", "yes", "yes", "N", "N")),
        (("F", "M", "f", "T"), ("F", "M", "F", "T")),
        (("0", "1", "1.0"), ("0", "1", "1")),
    ],
)
def test_spellings_of_one_value_are_one(texts, one):
    assert unified(column(*texts))[0].tolist() == list(one)


@pytest.mark.parametrize("gap", ["", "NA", "<NA>", "#N/A", ".", "-", "nan", "NULL", "missing", "?", "n.a.", "\u2013"])
def test_gaps_are_gaps(gap):
    assert missing(column("a", gap, "b")).tolist() == [False, True, False]


def test_answers_are_none_and_a_minus_beside_a_plus_is_one():
    assert not missing(column("none", "unknown", "no", "0")).any()
    assert not missing(column("+", "-")).any()


def test_further_gaps_can_be_named():
    assert missing(column("-99", "-99.0", "5", "Not Asked"), ("-99", "not asked")).tolist() == [True, True, False, True]
