import time

import numpy as np
import pytest

from fedinv.data.sources.faces import Faces


def faces(**keys):
    return Faces(source="faces", **keys)


def test_every_person_has_as_many_portraits():
    table = faces(persons=6, portraits=5).load(1)
    assert np.bincount(table.labels).tolist() == [5] * 6
    assert table.schema.shape == (3, 32, 32)
    assert table.schema.classes[:2] == ("person 1", "person 2")
    pixels = table.columns["portrait"]
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert float(table.schema.encode(table.columns).std()) == pytest.approx(1, abs=1e-3)


def test_the_seed_alone_decides():
    one, same, other = (faces(persons=3, portraits=4).load(seed).columns["portrait"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("size", [16, 32])
def test_portraits_of_a_person_differ_and_are_alike(size):
    table = faces(persons=8, portraits=12, size=size).load(3)
    pixels, who = table.columns["portrait"], table.labels
    means = np.stack([pixels[who == i].mean(0) for i in range(8)])
    nearest = np.square(pixels[:, None] - means).mean(2).argmin(1)
    assert (nearest == who).mean() > 0.95
    spread = np.mean([np.square(pixels[who == i] - means[i]).mean() for i in range(8)])
    assert 5e-4 < spread < np.square(means - means.mean(0)).mean() * 2


def test_smaller_portraits_are_the_same_people():
    large, small = (faces(persons=4, portraits=5, size=size).load(2) for size in (32, 16))
    assert np.array_equal(large.labels, small.labels)
    shrunk = large.columns["portrait"].reshape(20, 3, 16, 2, 16, 2).mean((3, 5))
    assert np.corrcoef(shrunk.ravel(), small.columns["portrait"].ravel())[0, 1] > 0.97


def test_neighboring_pixels_are_alike():
    pixels = faces(persons=4, portraits=5).load(2).columns["portrait"].reshape(20, 3, 32, 32)
    assert np.abs(np.diff(pixels)).mean() < 0.5 * np.abs(pixels[..., :16] - pixels[..., 16:]).mean()


def test_four_hundred_take_a_moment():
    begun = time.process_time()
    assert len(faces().load(1)) == 400
    assert time.process_time() - begun < 5
