import pytest

from fedinv.errors import RequestError
from fedinv.scenario.reading import loads
from fedinv.studies.sweep import grid, swept


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("dp-sgd.noise_multiplier=0.1:4:log3", (0.1, 0.6325, 4.0)),
        ("dp-sgd.noise_multiplier = 1:2:3", (1.0, 1.5, 2.0)),
        ("training.batch_size=8:128:log5", (8, 16, 32, 64, 128)),
        ("training.epochs=1:2:4", (1, 2)),
        ("top-k.keep=0.5,0.1", (0.5, 0.1)),
        ("model.activation=relu,tanh,relu", ("relu", "tanh")),
    ],
)
def test_a_grid_is_linear_logarithmic_or_a_list_and_whole_where_its_key_is(text, values):
    found = grid(text)[1]
    assert found == values
    assert [type(one) for one in found] == [type(one) for one in values]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dp-sgd.noise_multiplyer=1,2", "did you mean 'noise_multiplier'"),
        ("trainin.lr=1,2", "did you mean 'training'"),
        ("training.lr=0:1:log3", "above 0 for log"),
        ("training.lr=1:2", "write KEY=FROM:TO:N"),
        ("training.lr=1:2:3:4", "write KEY=FROM:TO:N"),
        ("training.lr=1:nan:3", "write KEY=FROM:TO:N"),
        ("training.lr=1:2:999", "200 at most"),
        ("training.lr", "write KEY=FROM:TO:N"),
        ("seed=1,2", "cannot be swept"),
        ("defenses.0.clip=1,2", "cannot be swept"),
    ],
)
def test_what_is_no_sweep_is_refused_with_what_to_write(text, says):
    with pytest.raises(RequestError, match=says):
        grid(text)


def test_a_defenses_key_is_changed_in_the_sets_that_hold_it_and_added_to_the_others(tiny):
    rows, points = swept(loads(tiny), ["top-k.keep=0.1,0.5"], ["masking", "top-k:keep=0.2+sign", "none"])
    assert [row.name for row in rows] == [
        "masking+top-k:keep=0.1", "masking+top-k:keep=0.5", "top-k:keep=0.1+sign", "top-k:keep=0.5+sign",
        "top-k:keep=0.1", "top-k:keep=0.5",
    ]  # fmt: skip
    assert [point.of for point in points[::2]] == ["masking+top-k", "top-k:keep=0.2+sign", "top-k"]
    assert [point.values for point in points[:2]] == [{"top-k.keep": 0.1}, {"top-k.keep": 0.5}]
    assert rows[2].on(loads(tiny)).defenses[0].keep == 0.1


def test_the_scenarios_own_defenses_keep_their_settings_and_keys_of_training_are_knobs(tiny):
    noisy = loads(tiny + '[[defenses]]\nkind = "dp-sgd"\nclip = 0.5\nnoise_multiplier = 1.0\n')
    rows, points = swept(noisy, ["dp-sgd.noise_multiplier=2,3", "training.lr=0.1,0.2"], None)
    assert len(rows) == len(points) == 4
    declared = [row.on(noisy) for row in rows]
    assert [(one.defenses[0].noise_multiplier, one.training.lr) for one in declared] == [
        (2.0, 0.1), (2.0, 0.2), (3.0, 0.1), (3.0, 0.2),
    ]  # fmt: skip
    assert {one.defenses[0].clip for one in declared} == {0.5}
    assert points[1].values == {"dp-sgd.noise_multiplier": 2, "training.lr": 0.2}
    assert len({row.name for row in rows}) == 4


def test_any_table_of_the_scenario_can_be_swept(tiny):
    rows, _ = swept(loads(tiny), ["federation.clients=4,6"], None)
    assert [row.on(loads(tiny)).federation.clients for row in rows] == [4, 6]
    assert [row.name for row in rows] == ["federation.clients=4", "federation.clients=6"]


def test_too_many_rows_and_a_key_named_twice_are_refused(tiny):
    with pytest.raises(RequestError, match="makes 400 rows, 200 at most"):
        swept(loads(tiny), ["training.lr=0.1:1:20", "dp-sgd.clip=0.1:1:20"], None)
    with pytest.raises(RequestError, match="swept twice"):
        swept(loads(tiny), ["training.lr=1,2", "training.lr=3,4"], None)
