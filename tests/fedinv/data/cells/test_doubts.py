import numpy as np
import pytest

from fedinv.data.cells.doubts import Held, doubts


def said(*texts, unit="", name="c"):
    values = np.array([float(text) for text in texts])
    return list(doubts(name, Held(values, np.array(texts, dtype=object), len(texts)), unit, False))


@pytest.mark.parametrize(
    ("texts", "doubted"),
    [
        (("1.5", "2.5", "-999", "-999"), True),
        (("0", "1", "2", "-9", "-9"), True),
        (("0", "4", "2", "99", "99", "99"), True),
        (("20", "90", "55", "99", "99"), False),  # an age
        (("0", "4", "2", "9", "9"), False),
        (("0", "4", "2", "99"), False),
        (("0", "4", "2", "98", "98"), False),
    ],
)
def test_a_number_of_nines_far_from_all_others_is_doubted_and_not_shown(texts, doubted):
    found = [one for one in said(*texts) if "data.missing" in one]
    assert bool(found) == doubted
    assert not any("99" in one for one in found)


@pytest.mark.parametrize(
    ("texts", "doubted"),
    [
        (("01234", "12345", "00001"), True),
        (("12345", "23456", "99999"), False),
        (("0", "5", "7"), False),
        (("0.5", "1.5", "2.5"), False),
        (("012", "12", "7"), False),
    ],
)
def test_numbers_that_are_filled_up_with_zeros_may_be_codes(texts, doubted):
    assert any("data.categorical" in one for one in said(*texts)) == doubted
    assert not any("data.categorical" in one for one in said(*texts, unit="kg"))
