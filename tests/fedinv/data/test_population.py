import numpy as np
import pytest
import torch

from fedinv.data.population import joined, population
from fedinv.errors import RequestError
from fedinv.judge.truth import population_of
from fedinv.plugins import load
from fedinv.runs import run
from fedinv.scenario.reading import loads


def drawn(source="hospital", **more):
    kind = load("datasets", source)
    return kind.model_validate({"source": source, "partition": {"kind": "drawn", "each": 9}, **more})


@pytest.mark.parametrize("source", ["hospital", "bank"])
def test_records_are_drawn_for_each_client_alone(source):
    data = drawn(source, records=60)
    people = population(data, 3, 10**6, None)
    assert (len(people.table), people.held(999_999), sum(len(s) for s in people.shares)) == (60, 9, 0)
    inputs, labels = people.records(999_999)
    assert (inputs.shape, labels.shape) == ((9, people.schema.width), (9,))
    assert not torch.equal(inputs, people.records(5)[0])
    population.cache_clear()
    again = population(data, 3, 10, None)
    assert torch.equal(again.records(5)[0], people.records(5)[0])
    assert population(data, 3, 10, 4).held(0) == 4


def test_who_is_watched_joins_the_table_with_name_and_record():
    data = drawn(records=60)
    people = population(data, 3, 50, None)
    table = joined(people, data, 3, [7, 31])
    assert len(table.table) == 60 + 18
    assert len(table.table.identities["name"]) == 78
    for client in (7, 31):
        rows = torch.from_numpy(table.shares[client])
        assert torch.equal(table.inputs[rows], people.records(client)[0])
        assert torch.equal(table.labels[rows], people.records(client)[1])
    assert len(table.shares[8]) == 0
    assert table.holds == people.holds
    assert any("re-identified among 78 people" in note for note in table.table.notes)


def test_a_table_that_cannot_draw_says_what_to_use():
    with pytest.raises(RequestError, match=r"'digits' holds a table: use bank or hospital"):
        population(drawn("digits"), 3, 10, None)


def test_a_run_over_drawn_records_is_judged_against_the_truth(tiny, tmp_path):
    many = tiny.replace("hidden = [32, 16]", "hidden = [128, 32]")
    many = many.replace("records = 200", 'records = 200\npartition = { kind = "drawn", each = 6 }')
    many = many.replace("clients = 4\nrounds = 3", "clients = 300\nclients_per_round = 4\nrounds = 3")
    scenario = loads(many + '[[attacks]]\nkind = "exact"\nfall_back = false\n')
    assert len(population_of(scenario).table) == 200 + 6 * 4
    results = run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    (found,) = results.attacks
    assert found.recovered.value >= 0.75
    assert found.reidentified.value > 5 * found.chance
    assert results.federation.records == 300 * 6


def of_people(tmp_path, people=12, each=4, **more):
    """A csv of which `each` rows are about one person."""
    rows = [f"p{i // each},{i % 7},{i / 3:.2f},{i % 2}" for i in range(people * each)]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["who,a,b,y", *rows]) + "\n", encoding="utf-8")
    return load("datasets", "csv")(source="csv", path=path, label="y", person="who", **more)


@pytest.mark.parametrize("partition", [{"kind": "iid"}, {"kind": "dirichlet", "alpha": 0.3}, {"kind": "quantity"}])
def test_a_client_holds_all_rows_of_a_person_and_nobody_is_held_out_in_part(tmp_path, partition):
    people = population(of_people(tmp_path, partition=partition), 3, 3, None)
    parts = [*people.shares, people.holdout]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(48))
    owners = [set(people.person[part].tolist()) for part in parts]
    assert sum(len(owner) for owner in owners) == len(set.union(*owners)) == 12
    assert people.rows_per_person == 4
    assert "who" not in people.schema.names


def test_without_a_person_each_row_is_one():
    people = population(load("datasets", "hospital")(source="hospital", records=40), 3, 3, None)
    assert people.person.tolist() == list(range(40))
    assert people.rows_per_person == 1
    assert not people.imputed.any()
    assert people.imputed.shape == (40, len(people.schema.columns))


@pytest.mark.parametrize(("limit", "said"), [(5000, True), (2, False), (None, False)])
def test_a_limit_that_limits_nobody_is_said(limit, said):
    people = population(load("datasets", "hospital")(source="hospital", records=40), 3, 4, limit)
    found = [note for note in people.table.notes if "training.records_per_client = 5000 limits nobody" in note]
    assert bool(found) == said
