import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedinv.task.columns import Categorical, Continuous, Image, fit_categorical, fit_continuous
from fedinv.task.schema import Schema

NAMES = st.sampled_from(["age", "", "<script>alert(1)</script>", "a\nb", "naïve ♥", "'; drop table", "0.weight"])
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@st.composite
def tables(draw):
    """A schema fitted on some records, and the records."""
    rows = draw(st.integers(2, 12))
    columns, specs = {}, []
    for position, kind in enumerate(draw(st.lists(st.sampled_from("cin"), min_size=1, max_size=5))):
        name = f"{draw(NAMES)}{position}"
        if kind == "c":
            values = np.array(draw(st.lists(TEXTS, min_size=rows, max_size=rows)), dtype=str)
            specs.append(fit_categorical(name, values))
        else:
            numbers = st.integers(-(10**6), 10**6) if kind == "i" else st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
            values = np.array(draw(st.lists(numbers, min_size=rows, max_size=rows)), dtype=np.float64)
            specs.append(fit_continuous(name, values, integer=kind == "i"))
        columns[name] = values
    return Schema(columns=tuple(specs), label="y", classes=("no", "yes")), columns


@given(tables())
def test_records_survive_encoding_and_decoding(case):
    schema, columns = case
    inputs = schema.encode(columns)
    back = schema.decode(inputs)
    assert inputs.shape == (len(next(iter(columns.values()))), schema.width)
    assert inputs.dtype == torch.float32
    assert tuple(back) == schema.names
    for spec in schema.columns:
        if isinstance(spec, Categorical):
            assert back[spec.name].tolist() == columns[spec.name].tolist()
        else:
            # float32 keeps seven digits of the standardized value, so of the spread around the mean
            error = np.abs(back[spec.name] - columns[spec.name])
            assert error.max() <= (0 if spec.integer and spec.std < 1e5 else 1e-5 * spec.std + 1e-9)


@given(tables(), st.integers(0, 2**31))
def test_decoding_anything_gives_valid_records(case, seed):
    schema, _ = case
    noise = torch.randn((5, schema.width), generator=torch.Generator().manual_seed(seed)) * 50
    noise[0] = torch.nan
    noise[1] = torch.inf
    back = schema.decode(noise)
    for spec in schema.columns:
        if isinstance(spec, Categorical):
            assert set(back[spec.name]) <= set(spec.values)
        else:
            assert ((back[spec.name] >= spec.low) & (back[spec.name] <= spec.high)).all()
            assert not spec.integer or (back[spec.name] == np.round(back[spec.name])).all()
    schema.encode(back)


@given(tables())
def test_a_schema_survives_json(case):
    schema, _ = case
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


@given(tables(), st.integers(0, 2**31))
def test_a_schema_that_was_drawn_from_equals_its_copy(case, seed):
    copies = case[0], case[0].model_validate_json(case[0].model_dump_json())
    for one in copies:
        one.draw(2, np.random.default_rng(seed))
    assert copies[0] == copies[1] and hash(copies[0]) == hash(copies[1])


@given(tables(), st.integers(0, 2**31))
def test_draws_follow_the_dictionary(case, seed):
    schema, _ = case
    drawn = schema.draw(7, np.random.default_rng(seed))
    assert drawn.shape == (7, schema.width)
    for spec, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(spec, Categorical):
            assert (drawn[:, where].sum(dim=1) == 1).all()
            never = [i for i, share in enumerate(spec.frequencies) if share == 0]
            assert drawn[:, where][:, never].sum() == 0


def test_an_unknown_category_is_refused_without_quoting_it():
    schema = Schema(
        columns=(Categorical(name="<b>", values=("x", "y"), frequencies=(0.5, 0.5)),), label="l", classes=("0", "1")
    )
    with pytest.raises(ValueError, match="column '<b>': 1 unknown values"):
        schema.encode({"<b>": np.array(["x", "z"])})


def test_a_constant_column_can_be_encoded():
    spec = fit_continuous("c", np.full(4, 3.5))
    assert spec.std == 1.0
    assert spec.encode(np.full(2, 3.5)).tolist() == [[0.0], [0.0]]


def test_the_guess_is_the_densest_value_and_the_commonest_category():
    numbers = np.concatenate([np.full(70, 10.0), np.linspace(0, 100, 30)])
    spec = fit_continuous("n", numbers)
    assert abs(spec.mode - 10) < 0.319 * spec.std
    schema = Schema(columns=(spec, fit_categorical("c", np.array(["a", "b", "b"]))), label="l", classes=("0", "1"))
    back = schema.decode(schema.guess(2))
    assert back["n"].tolist() == pytest.approx([spec.mode] * 2, rel=1e-5)
    assert back["c"].tolist() == ["b", "b"]


def test_a_fixed_order_keeps_values_that_do_not_occur():
    spec = fit_categorical("c", np.array(["b", "a", "b"]), order=("c", "b", "a"))
    assert spec.values == ("c", "b", "a")
    assert spec.frequencies == pytest.approx((0, 2 / 3, 1 / 3))


def test_values_and_frequencies_must_match():
    with pytest.raises(ValidationError, match="2 values but 1 frequencies"):
        Categorical(name="c", values=("a", "b"), frequencies=(1.0,))


def test_a_standard_deviation_of_zero_is_refused():
    with pytest.raises(ValidationError, match="greater than 0"):
        Continuous(name="c", mean=0, std=0, low=0, high=0, mode=0)


PHOTO = Image(name="photo", channels=3, down=4, across=6, mean=100, std=50, low=0, high=255)


def photos(count):
    return {"photo": np.random.default_rng(0).integers(0, 256, (count, 72)).astype(float)}


def test_an_image_is_one_column_of_many_inputs():
    schema = Schema(columns=(PHOTO,), label="y", classes=("no", "yes"))
    assert (schema.shape, schema.width, schema.fields, schema.outputs) == ((3, 4, 6), 72, 72, 2)
    inputs = schema.encode(photos(5))
    assert inputs.shape == (5, 72)
    assert np.allclose(schema.decode(inputs)["photo"], photos(5)["photo"], atol=1e-3)
    wild = schema.decode(torch.tensor([[torch.nan, torch.inf, -torch.inf] * 24]))["photo"]
    assert wild[0, :3].tolist() == [100, 255, 0]
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


def test_a_guessed_image_is_the_mean_pixel_and_a_drawn_one_is_smooth_and_standard():
    large = PHOTO.model_copy(update={"down": 16, "across": 16, "low": -(10**6), "high": 10**6})
    schema = Schema(columns=(large,), label="y", classes=("no", "yes"))
    assert np.allclose(schema.decode(schema.guess(2))["photo"], 100)
    drawn = schema.draw(2000, np.random.default_rng(0))
    assert float(drawn.mean()) == pytest.approx(0, abs=0.05)
    assert float(drawn.var(0).mean()) == pytest.approx(1, abs=0.05)
    pixels = drawn.reshape(-1, 3, 16, 16)
    near, far = (float((pixels[..., 0] * pixels[..., step]).mean()) for step in (1, 15))
    assert 1 > near > far + 0.2
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_no_column_may_stand_beside_an_image():
    other = Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5))
    with pytest.raises(ValidationError, match="all of a record"):
        Schema(columns=(PHOTO, other), label="y", classes=("no", "yes"))


@pytest.mark.parametrize("count", [20, 240])
def test_one_wrong_entry_does_not_make_every_guess_right(count):
    salaries = np.random.default_rng(0).normal(3000, 600, count)
    usual, spoiled = fit_continuous("salary", salaries), fit_continuous("salary", np.append(salaries, 987_654.0))
    assert spoiled.std == pytest.approx(usual.std, rel=0.4)
    guess = spoiled.decode(np.array([spoiled.guess]))[0]
    assert (np.abs(salaries - guess) <= 0.319 * spoiled.std).mean() < 0.5
    assert spoiled.high == 987_654  # the range is exact


def test_without_outliers_the_scale_is_the_standard_deviation():
    for numbers in (np.random.default_rng(1).exponential(5.0, 200), np.r_[np.zeros(90), np.arange(1.0, 11.0)]):
        spec = fit_continuous("n", numbers)
        assert (spec.mean, spec.std) == (numbers.mean(), numbers.std())
    mostly = np.r_[np.zeros(200), np.arange(1.0, 11.0), 1e9]
    assert fit_continuous("n", mostly).std < 5


def test_no_scores_of_whatever_width_are_no_records():
    schema = Schema(
        columns=(Categorical(name="c", values=("x", "y"), frequencies=(0.5, 0.5)),), label="l", classes=("0", "1")
    )
    for width in (1, schema.width):
        assert len(schema.decode(torch.zeros(0, width))["c"]) == 0
