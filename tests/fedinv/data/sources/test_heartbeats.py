import numpy as np
import pytest

from fedinv.data.sources.heartbeats import CLASSES, Heartbeats


def heartbeats(**keys):
    return Heartbeats(source="heartbeats", **keys)


def test_a_beat_is_a_signal_of_one_lead_whose_r_wave_stands_out():
    table = heartbeats(persons=20).load(1)
    column = table.schema.image
    assert (column.shape, column.unit, column.called) == ((1, 1, 128), "mV", "signals")
    volts = table.columns[column.name]
    normal = volts[table.labels == CLASSES.index("normal")]
    assert np.abs(normal.argmax(1) - 0.4 * 128).max() < 5
    assert 0.5 < np.median(normal.max(1)) < 2


def test_kinds_differ_as_they_do_in_people():
    table = heartbeats(persons=60).load(2)
    means = [table.columns["lead II"][table.labels == kind].mean(0) for kind in range(3)]
    wide = [(np.abs(mean) > 0.3 * np.abs(mean).max()).sum() for mean in means]
    t_wave = [mean[int(128 * 0.4 + 0.23 * 160) - 5 :][:10].mean() for mean in means]
    assert wide[1] > 1.5 * wide[0]
    assert wide[2] > 1.2 * wide[0]
    assert t_wave[0] > 0.1
    assert t_wave[1] < -0.1


def test_the_seed_alone_decides():
    one, same, other = (heartbeats(persons=4).load(seed).columns["lead II"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("samples", [64, 187])
def test_a_beat_has_as_many_samples_as_asked_for(samples):
    assert heartbeats(persons=3, samples=samples).load(1).schema.width == samples
