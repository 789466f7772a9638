"""What every data set keeps, built in or of another package: found by its source, never listed here."""

import json
from functools import cache

import numpy as np
import pytest
import torch

from fedinv import plugins
from fedinv.data.dataset import Dataset
from fedinv.data.partition import Drawn
from fedinv.data.population import population
from fedinv.data.table_checks import wrong
from fedinv.errors import RequestError
from fedinv.scenario.reading import parse
from fedinv.task.columns import Categorical
from fedinv.task.schema import Schema

from .conftest import flattened

KINDS = tuple(plugins.available("datasets"))
DRAWING = [k for k in KINDS if plugins.load("datasets", k).draw is not Dataset.draw]
CLIENTS = 2


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A small source of a kind, made once."""
    return cache(lambda kind: plugins.load("datasets", kind).sample(tmp_path_factory.mktemp(kind)))


def the_same(one, other):
    """Whether two columns hold the same, bit by bit."""
    return flattened(one) == flattened(other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_is_frozen_and_read_back_as_it_was(kind, sample):
    source = sample(kind)
    assert isinstance(source, Dataset)
    assert type(source).__doc__
    assert source.source == kind
    again = type(source).model_validate(json.loads(source.model_dump_json()))
    assert again == source
    assert hash(again) == hash(source)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_table(kind, sample):
    found = []
    for time in (1, 2):
        torch.manual_seed(time)  # nothing may come from the global generators
        np.random.seed(time)  # noqa: NPY002
        found.append(sample(kind).load(5))
    assert flattened(found[0].schema) == flattened(found[1].schema)
    assert the_same(found[0].columns, found[1].columns)
    assert the_same(found[0].labels, found[1].labels)
    assert the_same(found[0].identities, found[1].identities)
    assert found[0].notes == found[1].notes


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_fits_every_record_and_is_read_back_as_it_was(kind, sample):
    table = sample(kind).load(5)
    assert wrong(table) is None
    assert Schema.model_validate_json(table.schema.model_dump_json()) == table.schema
    assert all(isinstance(note, str) and "\n" not in note for note in table.notes)
    assert sample(kind).images == (table.schema.image is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_and_decoding_gives_the_records_back(kind, sample):
    table = sample(kind).load(5)
    schema = table.schema
    inputs = schema.encode(table.columns)
    assert inputs.dtype == torch.float32
    assert inputs.shape == (len(table), schema.width)
    assert bool(inputs.isfinite().all())
    back = schema.decode(inputs)
    for column in schema.columns:
        values = table.columns[column.name]
        if isinstance(column, Categorical):
            assert [str(value) for value in back[column.name]] == [str(value) for value in values]
        else:
            # float32 holds seven digits of a standardized number
            slack = 1e-5 * (column.std + abs(column.mean))
            assert np.abs(back[column.name] - values).max() <= slack, column.name
    labels = schema.encode_labels(table.labels)
    assert labels.dtype == (torch.float32 if schema.target else torch.int64)
    assert labels.shape == (len(table),)


@pytest.mark.parametrize("kind", KINDS)
def test_the_people_are_split_into_shares_and_a_hold_out_without_overlap(kind, sample):
    people = population(sample(kind), 5, CLIENTS, None)
    held = np.concatenate([*people.shares, people.holdout])
    assert all(len(share) for share in people.shares)
    assert len(people.holdout)
    assert np.array_equal(np.sort(held), np.arange(len(people.table)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_cannot_draw_refuses_to_and_one_that_can_draws_by_the_seed_what_its_schema_fits(kind, sample):
    source = sample(kind).model_copy(update={"partition": Drawn(kind="drawn", each=8)})
    if kind not in DRAWING:
        with pytest.raises(RequestError, match="needs a source that draws records"):
            population(source, 5, CLIENTS, None)
        return
    people = population(source, 5, CLIENTS, None)
    inputs, labels = people.records(1)
    assert inputs.shape == (8, people.schema.width)
    assert len(labels) == 8
    one, same, other = (source.draw(np.random.default_rng(seed), 8) for seed in (1, 1, 2))
    assert the_same(one, same)
    assert not the_same(one[0], other[0])
    named = source.name(np.random.default_rng(1), one[0])
    assert named is None or all(len(values) == 8 for values in named.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_key_is_refused_in_one_line_that_names_it(kind, sample):
    document = {**sample(kind).model_dump(mode="json", exclude_none=True), "nonsense": 1}
    with pytest.raises(RequestError, match=r"^contract: data\.nonsense: unknown key") as caught:
        parse({"name": "contract", "data": document, "federation": {"clients": 2}, "training": {}}, "contract")
    assert "\n" not in str(caught.value)
