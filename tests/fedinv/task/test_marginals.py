import numpy as np

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.marginals import marginals

AGE = Continuous(name="age", mean=50.0, std=10.0, low=45.0, high=70.0, mode=55.0)
TYPE = Categorical(name="type", values=("a", "b", "o"), frequencies=(0.2, 0.5, 0.3))
COLUMNS = (AGE, TYPE, AGE)


def test_draws_are_those_of_numpy_column_by_column():
    drawn, rng = marginals(COLUMNS).draw(9, np.random.default_rng(1)), np.random.default_rng(1)
    first = np.clip(rng.standard_normal(9), *AGE.limits)
    chosen = rng.choice(3, 9, p=TYPE.frequencies)
    second = np.clip(rng.standard_normal(9), *AGE.limits)
    expected = np.column_stack([first, np.eye(3)[chosen], second])
    assert drawn.dtype == np.float32 and np.array_equal(drawn, expected.astype(np.float32))


def test_sharpened_ones_are_more_often_the_most_frequent_and_lie_around_the_densest_region():
    drawn = marginals(COLUMNS, power=6.0, spread=0.25).draw(4000, np.random.default_rng(1))
    assert drawn[:, 2].mean() > 0.9
    assert abs(np.median(drawn[:, 0]) - AGE.guess[0]) < 0.05 and drawn[:, 0].std() < 0.3


def test_a_table_may_hold_numbers_alone_or_categories_alone():
    rng = np.random.default_rng(1)
    assert marginals([AGE]).draw(3, rng).shape == (3, 1)
    assert marginals([TYPE]).draw(3, rng).sum() == 3
