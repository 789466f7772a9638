"""A rate over all clients hides the one that is worst off: it is counted by client, and the smallest are watched."""

import pytest

import fedinv
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads


@pytest.mark.slow
def test_the_smallest_clients_are_watched_and_counted_one_by_one(tiny, tmp_path):
    text = tiny.replace("records = 200", 'records = 300\npartition = { kind = "quantity" }')
    text = text.replace("clients = 4", "clients = 14").replace("records_per_client = 6", "")
    text = text.replace("rounds = 3", "rounds = 1").replace("watch = { rounds = [1, 2], clients = 2 }", "")
    scenario = loads(text.replace("[32, 16]", "[64]") + '[[attacks]]\nkind = "exact"\nfall_back = false\n')
    run = fedinv.run(scenario, out=tmp_path / "run", progress=False)
    (found,) = run.results.attacks
    people, worst = population_of(scenario), found.worst
    smallest = sorted(sorted(range(14), key=lambda client: (people.held(client), client))[:8])
    assert [(one.client, one.records) for one in found.clients] == [(c, people.held(c)) for c in smallest]
    assert sum(one.recovered for one in found.clients) == round(found.recovered.value * found.recovered.count)
    assert sum(one.right for one in found.clients) == round(found.field_accuracy.value * found.field_accuracy.count)
    assert worst.recovered / worst.records == max(one.recovered / one.records for one in found.clients) > 0
    assert "the 8 smallest of 14 hospitals, the server rebuilt" in run.results.headline
    assert f"worst client {worst.client}: {worst.recovered} of {worst.records}" in run.report.read_text()
