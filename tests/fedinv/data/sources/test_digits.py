import numpy as np
import pytest
from sklearn.datasets import load_digits

from fedinv.data.sources.digits import Digits
from fedinv.errors import RequestError


def digits(**keys):
    return Digits(source="digits", **keys)


def test_all_images_are_there_with_their_labels():
    table, given = digits().load(1), load_digits()
    assert len(table) == 1797
    assert table.schema.shape == (1, 8, 8)
    assert table.schema.outputs == 10
    order = np.lexsort(given.data.T)
    ours = np.lexsort(table.columns["image"].T)
    assert np.array_equal(table.columns["image"][ours] * 16, given.data[order])
    assert np.bincount(table.labels).tolist() == np.bincount(given.target).tolist()
    assert table.identities is None


def test_network_inputs_are_standardized():
    table = digits(records=400).load(1)
    inputs = table.schema.encode(table.columns)
    assert abs(float(inputs.mean())) < 1e-5
    assert float(inputs.std()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3)])
def test_larger_images_are_the_same_ones(size, channels):
    small, large = digits(records=30).load(1), digits(records=30, size=size, channels=channels).load(1)
    pixels = large.columns["image"].reshape(30, channels, size, size)
    assert large.schema.shape == (channels, size, size)
    assert np.array_equal(small.labels, large.labels)
    assert np.array_equal(pixels[:, 0], pixels[:, -1])
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    times = size // 8
    blocks = pixels[:, 0].reshape(30, 8, times, 8, times).mean((2, 4))
    assert np.corrcoef(blocks.ravel(), small.columns["image"].ravel())[0, 1] > 0.97


def test_a_part_is_drawn_by_the_seed():
    part, same, other = (digits(records=50).load(seed).columns["image"] for seed in (1, 1, 2))
    assert np.array_equal(part, same)
    assert not np.array_equal(part, other)


def test_more_than_there_are_is_refused():
    with pytest.raises(RequestError, match="1798 is more than the 1797 images"):
        digits(records=1798).load(1)
