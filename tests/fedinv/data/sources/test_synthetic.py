from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fedinv.data.sources.bank import Bank
from fedinv.data.sources.hospital import Hospital
from fedinv.task.columns import Categorical, Continuous


def hospital(records=2000):
    return Hospital(source="hospital", records=records)


def bank(records=2000):
    return Bank(source="bank", records=records)


SOURCES = pytest.mark.parametrize("source", [hospital, bank])


@SOURCES
def test_the_seed_fixes_the_table(source):
    first, same, other = source(200).load(3), source(200).load(3), source(200).load(4)
    for name in first.schema.names:
        assert np.array_equal(first.columns[name], same.columns[name])
    assert np.array_equal(first.labels, same.labels)
    for name, values in first.identities.items():
        assert np.array_equal(values, same.identities[name])
        assert not np.array_equal(values, other.identities[name])
    assert first.schema == same.schema
    assert not np.array_equal(first.labels, other.labels)


@SOURCES
def test_the_global_generator_is_left_alone(source):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    source(50).load(1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@SOURCES
def test_the_table_is_wide_and_of_mixed_type(source):
    schema = source().load(7).schema
    kinds = [type(column) for column in schema.columns]
    assert len(kinds) >= 20
    assert kinds.count(Continuous) >= 12
    assert kinds.count(Categorical) >= 8
    assert 45 <= schema.width <= 65
    assert any(column.sensitive for column in schema.columns)
    assert all(column.unit for column in schema.columns if isinstance(column, Continuous))


@SOURCES
def test_every_listed_category_occurs(source):
    schema = source().load(7).schema
    for column in schema.columns:
        if isinstance(column, Categorical):
            assert sum(column.frequencies) == pytest.approx(1)
            assert min(column.frequencies) > 0, column.name


@SOURCES
def test_records_survive_the_network_encoding(source):
    people = source(300).load(5)
    back = people.schema.decode(people.schema.encode(people.columns))
    for column in people.schema.columns:
        if isinstance(column, Categorical) or column.integer:
            assert back[column.name].tolist() == people.columns[column.name].tolist()
        else:
            assert np.abs(back[column.name] - people.columns[column.name]).max() < 1e-3 * column.std


@SOURCES
def test_the_label_can_be_learned_but_not_fully(source):
    people = source(3000).load(11)
    inputs = people.schema.encode(people.columns).numpy()
    for size, least in ((320, 0.76), (1000, 0.8)):
        model = LogisticRegression(C=0.1, max_iter=500).fit(inputs[:size], people.labels[:size])
        score = roc_auc_score(people.labels[1000:], model.predict_proba(inputs[1000:])[:, 1])
        assert least < score < 0.9
    assert 0.2 < people.labels.mean() < 0.4


@SOURCES
def test_no_record_repeats_and_no_column_follows_from_the_others(source):
    people = source().load(7)
    inputs = people.schema.encode(people.columns).double().numpy()
    assert len(np.unique(inputs, axis=0)) == len(inputs)
    groups = sum(isinstance(column, Categorical) for column in people.schema.columns)
    # each one-hot group adds up to one, and nothing else is linearly dependent
    extended = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    singular = np.linalg.svd(extended, compute_uv=False)
    assert (singular > 1e-6 * singular[0]).sum() == people.schema.width + 1 - groups
    numbers = [people.columns[c.name] for c in people.schema.columns if isinstance(c, Continuous)]
    correlation = np.abs(np.corrcoef(numbers)) - np.eye(len(numbers))
    assert 0.3 < correlation.max() < 0.97


@SOURCES
def test_people_are_distinct_and_never_among_the_columns(source):
    people = source().load(7)
    assert set(people.identities).isdisjoint(people.schema.names)
    assert {"name", "birth_date", "postcode"} <= set(people.identities)
    who = list(zip(*(people.identities[k].tolist() for k in ("name", "birth_date", "postcode")), strict=True))
    assert len(set(who)) == len(who) == len(people)
    recorded = {str(value) for values in people.columns.values() for value in values.tolist()}
    assert recorded.isdisjoint(people.identities["name"].tolist())


@SOURCES
def test_birth_dates_agree_with_ages(source):
    people = source(500).load(2)
    last_day = date(2024, 12, 31)
    for text, age in zip(people.identities["birth_date"].tolist(), people.columns["age"].tolist(), strict=True):
        born = date.fromisoformat(text)
        assert last_day.year - born.year - ((last_day.month, last_day.day) < (born.month, born.day)) == age


def test_account_numbers_are_unique():
    accounts = bank().load(7).identities["account"].tolist()
    assert len(set(accounts)) == len(accounts)
    assert {len(account) for account in accounts} == {10}


def test_values_are_rounded_as_an_instrument_rounds():
    columns = hospital(400).load(1).columns
    for name, decimals in (("creatinine", 2), ("hba1c", 1), ("bmi", 1), ("age", 0), ("length_of_stay", 0)):
        assert np.array_equal(columns[name], np.round(columns[name], decimals))


def test_the_causal_graph_shows_in_the_table():
    columns = hospital(4000).load(1).columns
    diabetic = columns["diagnosis"] == "diabetes"
    assert columns["hba1c"][diabetic].mean() > columns["hba1c"][~diabetic].mean() + 0.8
    assert np.corrcoef(columns["systolic"], columns["diastolic"])[0, 1] > 0.4
    assert (columns["drug_class"] == "chemotherapy")[columns["diagnosis"] == "cancer"].mean() > 0.4


def test_too_few_records_and_unknown_keys_are_refused():
    for wrong in ({"records": 0}, {"record": 100}, {"records": 10**9}):
        with pytest.raises(ValidationError):
            Hospital(source="hospital", **wrong)
        with pytest.raises(ValidationError):
            Bank(source="bank", **wrong)
