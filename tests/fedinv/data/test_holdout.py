import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv.data.holdout import held_out_rows


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_class_is_on_both_sides_where_it_can_be(sizes, share, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    count = round(share * len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    held = held_out_rows(order, labels, count, classes=True)
    assert len(np.unique(held)) == len(held) == count
    out = np.bincount(labels[held], minlength=len(sizes))
    large = np.array(sizes) > 1
    if count >= len(sizes):
        assert (out[large] >= 1).all()
    if len(labels) - count >= len(sizes):
        assert (np.array(sizes) - out >= 1).all()


def test_shares_are_those_of_the_classes_and_the_order_decides_who():
    labels = np.array([0] * 90 + [1] * 10)
    order = np.arange(100)
    assert held_out_rows(order, labels, 20, classes=True).tolist() == [*range(18), 90, 91]
    assert held_out_rows(order[::-1], labels, 20, classes=False).tolist() == list(range(80, 100))


@pytest.mark.parametrize(("positives", "measurable"), [(1, 0), (2, 1), (30, 6)])
def test_a_rare_class_is_held_out_as_soon_as_there_are_two_of_it(positives, measurable):
    labels = np.array([0] * (150 - positives) + [1] * positives)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(150)
        assert labels[held_out_rows(order, labels, 30, classes=True)].sum() == measurable
