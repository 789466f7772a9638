from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fedinv.data.partition import ByColumn, Dirichlet, Iid, Partition, Quantity
from fedinv.data.table import Table
from fedinv.errors import RequestError
from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema

WARDS = ("north", "south", "east", "west")


def table(rows, seed=0, classes=2):
    rng = np.random.default_rng(seed)
    columns = {"age": np.round(rng.normal(50, 15, rows)), "ward": rng.choice(WARDS, rows, p=[0.55, 0.25, 0.15, 0.05])}
    schema = Schema(
        columns=(fit_continuous("age", columns["age"]), fit_categorical("ward", columns["ward"], order=WARDS)),
        label="ill",
        classes=tuple(str(i) for i in range(classes)),
    )
    return Table(schema=schema, columns=columns, labels=rng.integers(0, classes, rows))


PARTITIONS = st.one_of(
    st.just(Iid()),
    st.sampled_from([1e-300, 1e-3, 0.1, 0.5, 1.0, 100.0]).map(lambda alpha: Dirichlet(kind="dirichlet", alpha=alpha)),
    st.sampled_from(["age", "ward", "ill"]).map(lambda column: ByColumn(kind="by-column", column=column)),
    st.sampled_from([0.0, 0.5, 1.0, 10.0]).map(lambda exponent: Quantity(kind="quantity", exponent=exponent)),
)


@given(PARTITIONS, st.integers(1, 60), st.data(), st.integers(0, 2**31), st.integers(2, 4))
def test_every_record_has_one_owner_and_every_client_a_record(partition, rows, data, seed, classes):
    clients = data.draw(st.integers(1, rows))
    people = table(rows, seed, classes)
    shares = partition.split(people, clients, np.random.default_rng(seed))
    assert len(shares) == clients
    assert all(share.dtype == np.int64 and len(share) for share in shares)
    assert sorted(np.concatenate(shares).tolist()) == list(range(rows))
    again = partition.split(people, clients, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(shares, again, strict=True))


@pytest.mark.parametrize(
    "partition",
    [Iid(), Dirichlet(kind="dirichlet", alpha=1), ByColumn(kind="by-column", column="ward"), Quantity(kind="quantity")],
)
def test_more_clients_than_records_are_refused(partition):
    with pytest.raises(RequestError, match="5 records cannot be spread over 6 clients, use at most 5"):
        partition.split(table(5), 6, np.random.default_rng(0))


@pytest.mark.parametrize(
    "partition",
    [
        Iid(),
        Dirichlet(kind="dirichlet", alpha=5),
        ByColumn(kind="by-column", column="age"),
        ByColumn(kind="by-column", column="ward"),
        Quantity(kind="quantity"),
    ],
)
def test_the_order_within_a_share_is_random(partition):
    people = table(400)
    largest = max(partition.split(people, 3, np.random.default_rng(1)), key=len)
    assert not np.array_equal(largest, np.sort(largest))
    assert abs(np.corrcoef(people.columns["age"][largest], np.arange(len(largest)))[0, 1]) < 0.3


def test_iid_shares_are_equal():
    assert sorted(len(s) for s in Iid().split(table(103), 10, np.random.default_rng(0))) == [10] * 7 + [11] * 3


def test_a_small_alpha_skews_the_labels_and_a_large_one_does_not():
    people = table(4000)

    def spread(alpha):
        parts = Dirichlet(kind="dirichlet", alpha=alpha).split(people, 8, np.random.default_rng(3))
        return np.std([people.labels[part].mean() for part in parts])

    assert spread(0.1) > 0.25
    assert spread(1000) < 0.05


def test_by_column_gives_each_client_one_value():
    people = table(2000)
    shares = ByColumn(kind="by-column", column="ward").split(people, 10, np.random.default_rng(0))
    held = [set(people.columns["ward"][share].tolist()) for share in shares]
    assert all(len(values) == 1 for values in held)
    assert set.union(*held) == set(WARDS)
    # clients go where the records are: the commonest ward, 55 %, has most of them
    assert sum(values == {"north"} for values in held) >= 4


def test_by_column_gives_a_client_several_whole_values_when_there_are_more_values():
    people = table(2000)
    shares = ByColumn(kind="by-column", column="ward").split(people, 2, np.random.default_rng(0))
    held = [set(people.columns["ward"][share].tolist()) for share in shares]
    assert held[0].isdisjoint(held[1])
    assert {len(share) > 800 for share in shares} == {True}


def test_by_column_cuts_a_continuous_column_into_ranges():
    people = table(500)
    ages = [
        people.columns["age"][s]
        for s in ByColumn(kind="by-column", column="age").split(people, 4, np.random.default_rng(0))
    ]
    assert all(before.max() <= after.min() for before, after in pairwise(ages))
    assert [len(part) for part in ages] == [125] * 4


def test_by_column_knows_the_label_and_names_the_nearest_column():
    people = table(200)
    shares = ByColumn(kind="by-column", column="ill").split(people, 2, np.random.default_rng(0))
    assert all(len(set(people.labels[share].tolist())) == 1 for share in shares)
    with pytest.raises(RequestError, match=r"no column 'wards' \(did you mean 'ward'\?\)"):
        ByColumn(kind="by-column", column="wards").split(people, 2, np.random.default_rng(0))


def test_quantity_follows_the_power_law():
    sizes = sorted(
        (len(s) for s in Quantity(kind="quantity", exponent=1).split(table(1100), 4, np.random.default_rng(0))),
        reverse=True,
    )
    assert sizes == pytest.approx([528, 264, 176, 132], abs=1)


def test_the_kind_chooses_and_unknown_keys_are_refused():
    adapter = TypeAdapter(Partition)
    assert adapter.validate_python({"kind": "dirichlet", "alpha": 0.5}) == Dirichlet(kind="dirichlet", alpha=0.5)
    for wrong in (
        {"kind": "iid", "alpha": 1},
        {"kind": "dirichlet"},
        {"kind": "dirichlet", "alpha": 0},
        {"kind": "dirichlet", "alpha": float("inf")},
        {"kind": "quantity", "exponent": -1},
        {"kind": "random"},
    ):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def numbered(values, **more):
    """A table of a numbered column and what is beside it."""
    values = np.asarray(values, np.float64)
    return Table(
        schema=Schema(columns=(fit_continuous("site_id", values, integer=True),), label="y", classes=("0", "1")),
        columns={"site_id": values},
        labels=np.arange(len(values)) % 2,
        **more,
    )


SITES = np.repeat([999, 11, 12, 3], [30, 20, 10, 4])


@pytest.mark.parametrize("where", ["field", "beside", "identities"])
def test_numbered_sites_are_not_cut_into_ranges_also_where_the_column_was_left_out(where):
    table = numbered(SITES)
    if where != "field":
        table = replace(numbered(np.arange(64)), **{where: {"site": SITES if where == "beside" else SITES.astype(str)}})
    by = ByColumn(kind="by-column", column="site_id" if where == "field" else "site")
    shares = by.split(table, 4, np.random.default_rng(0))
    assert sorted(len(share) for share in shares) == [4, 10, 20, 30]
    assert all(len(set(SITES[share].tolist())) == 1 for share in shares)
    assert bool(by.said(table, 4)) == (where != "identities")


@pytest.mark.parametrize(("by", "whole"), [(None, True), ("value", True), ("range", False)])
def test_how_numbers_are_assigned_can_be_named(by, whole):
    shares = ByColumn(kind="by-column", column="site_id", by=by).split(numbered(SITES), 4, np.random.default_rng(0))
    assert (sorted(len(share) for share in shares) == [4, 10, 20, 30]) == whole


@pytest.mark.parametrize(
    ("name", "values", "whole"),
    [("age", range(20, 84), False), ("site_id", range(64), True), ("weight", np.arange(64) / 8, False)],
)
def test_many_numbers_are_ranges_unless_they_number_something(name, values, whole):
    values = np.repeat(np.asarray(values, np.float64), 3)
    table = replace(numbered(np.arange(len(values))), beside={name: values})
    shares = ByColumn(kind="by-column", column=name).split(table, 3, np.random.default_rng(0))
    ends = sorted((values[share].min(), values[share].max()) for share in shares)
    ranges = all(high <= low for (_, high), (low, _) in pairwise(ends))
    assert ranges != whole
