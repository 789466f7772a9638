"""Whether given records are behind an update: found where they are, counted at a rate that others hold, else words."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app
from fedinv.errors import RequestError
from fedinv.runs.own_records.probe import Scored, at_rate

from .conftest import RECORDS, step, write


def test_every_record_behind_a_step_is_found_and_no_other_beyond_the_rate(recorded):
    found = recorded.probe(members=True)
    (one,) = found.updates
    percent, permille = one.at
    assert (percent.found, permille.found) == (RECORDS, RECORDS)
    assert percent.false <= 10
    assert permille.false <= 1
    assert percent.ci95[0] == pytest.approx(0.025 ** (1 / RECORDS), abs=1e-6)
    assert [layer.name for layer in one.layers if layer.used] == ["first"]
    assert found.headline.startswith("16 of 16 members (100.0 %) are recognized in the update of round 1, client 0")


def test_records_that_were_not_there_are_not_found(recorded):
    found = recorded.probe(records=recorded.others[:200], others=recorded.others[200:])
    assert found.updates[0].at[0].found <= 8
    found = recorded.probe(records=recorded.others[:1], others=recorded.others[1:])
    assert found.headline.startswith("None of 1 records stands out in the update of round 1, client 0")


def test_a_mix_is_told_apart_record_by_record_in_the_score_file(recorded, tmp_path):
    mixed = torch.cat([recorded.x[:4], recorded.others[:4]])
    recorded.probe(records=mixed, others=recorded.others[4:], out=tmp_path)
    rows = list(csv.DictReader((tmp_path / "probe.csv").read_text().splitlines()))
    assert [row["found at 1 %"] for row in rows] == ["yes"] * 4 + ["no"] * 4
    assert [row["record"] for row in rows] == [str(place) for place in range(8)]
    assert max(float(row["chance"]) for row in rows[:4]) == pytest.approx(1 / 997, abs=1e-5)
    assert min(float(row["chance"]) for row in rows[4:]) > 0.01
    assert json.loads((tmp_path / "probe.json").read_text())["records"] == 8


def test_noise_hides_every_record(recorded):
    sent = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    noisy = step(recorded.network, recorded.x, recorded.y, noise=0.1)
    folder = write(recorded.project, "noisy", sent, [noisy])
    found = fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others, members=True)
    assert found.updates[0].at[0].found <= 2


def test_too_few_others_are_words_and_no_number(recorded):
    percent, permille = recorded.probe(others=recorded.others[:200]).updates[0].at
    assert percent.found == RECORDS
    assert (permille.found, permille.share, permille.ci95, permille.false) == (None, None, None, None)
    assert permille.words == "needs 1000 other records or more, and there are 200"
    found = recorded.probe(others=recorded.others[:99])
    assert found.updates[0].at[0].found is None
    assert found.headline == "Nothing can be said of the records: needs 100 other records or more, and there are 99."


def test_an_update_in_which_nothing_moved_is_words(recorded):
    sent = recorded.network.state_dict()
    folder = write(recorded.project, "still", sent, [sent])
    found = fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others)
    assert found.updates[0].at[0].found is None
    assert "no layer distinguishes records" in found.headline


def test_others_that_are_among_the_records_are_left_out(recorded):
    found = recorded.probe(others=torch.cat([recorded.others, recorded.x[:3]]))
    assert found.others == 1000
    assert found.notes == ["3 of the others are among the records too, and were left out"]
    assert found.updates[0].at[0].found == RECORDS


def test_the_one_of_several_updates_that_holds_them_is_named(recorded):
    sent = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    other = step(recorded.network, recorded.others[:RECORDS], recorded.y)
    mine = step(recorded.network, recorded.x, recorded.y)
    folder = write(recorded.project, "two", sent, [other, mine])
    found = fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others[RECORDS:])
    assert [one.at[0].found > 8 for one in found.updates] == [False, True]
    assert "client 1, of 2 updates the one with most" in found.headline
    with pytest.raises(RequestError, match="--members: .* name one of the 2 by --update"):
        fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others, members=True)
    with pytest.raises(RequestError, match="--update: there are 2 updates, and no number 2"):
        fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others, update=2)


def test_known_weight_decay_is_taken_out(recorded):
    sent = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    folder = write(recorded.project, "decayed", sent, [step(recorded.network, recorded.x, recorded.y, decay=0.01)])
    given = {"records": recorded.x, "others": recorded.others, "members": True}
    (unsaid,) = fedinv.probe(folder, recorded.network, **given).updates
    (found,) = fedinv.probe(folder, recorded.network, **given, optimizer="sgd:lr=0.1,weight_decay=0.01").updates
    ranks = [next(layer.rank for layer in one.layers if layer.name == "first") for one in (unsaid, found)]
    assert ranks == [64, RECORDS]
    assert found.at[0].found == RECORDS


def test_the_truth_gives_each_update_its_own_members(recorded):
    sent = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    theirs = recorded.others[:RECORDS]
    both = [step(recorded.network, one, recorded.y) for one in (theirs, recorded.x)]
    folder = write(recorded.project, "both", sent, both)
    where = np.repeat([0, 1], RECORDS)
    np.savez(folder / "truth.npz", records=torch.cat([theirs, recorded.x]).numpy(), update=where)
    found = fedinv.probe(folder, recorded.network, truth=folder / "truth.npz", others=recorded.others[RECORDS:])
    assert [(one.update, one.at[0].found, one.at[0].share) for one in found.updates] == [(0, 16, 1.0), (1, 16, 1.0)]
    with pytest.raises(RequestError, match="--records: name either your records by it, or .* --truth"):
        fedinv.probe(folder, recorded.network, others=recorded.others)


def test_the_network_is_left_as_it_was(recorded):
    before = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    recorded.network.train()
    recorded.probe(network=recorded.network)
    assert recorded.network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in recorded.network.state_dict().items())


def test_a_rate_holds_for_any_scores():
    rng = np.random.default_rng(0)
    for _ in range(50):
        others = rng.integers(0, 5, 300).astype(float)  # with ties
        one = at_rate(0.01, Scored(rng.integers(0, 8, 20).astype(float), others))
        assert one.false <= 3
        assert one.found == (np.array([]).size if one.found == 0 else one.found)
    assert at_rate(0.01, Scored(np.arange(3.0), np.arange(100.0) / 100)).found == 2


def test_a_run_of_ours_is_probed_by_its_columns_names(tiny, tmp_path):
    decaying = tiny.replace("[32, 16]", "[64, 32]").replace("lr = 0.05", "lr = 0.05\nweight_decay = 0.01")
    run = fedinv.run(decaying, out=tmp_path / "run", progress=False)
    from fedinv.judge.truth import population_of

    people = population_of(run.scenario)
    share = people.shares[fedinv.leak_map(run.folder).client]

    def table(rows, name):
        names = people.schema.names
        cells = [[str(people.table.columns[one][row]) for one in names] for row in rows]
        (tmp_path / name).write_text("\n".join(",".join(row) for row in [list(names), *cells]))
        return tmp_path / name

    mine, rest = table(share, "mine.csv"), table(people.holdout, "others.csv")
    found = fedinv.probe(run.folder, records=mine, others=[rest, rest, rest], members=True, update=0)
    assert (found.records, found.updates[0].at[0].found) == (len(share), len(share))
    (tmp_path / "odd.csv").write_text((tmp_path / "mine.csv").read_text().replace("age", "years"))
    with pytest.raises(RequestError, match="has no column 'age'"):
        fedinv.probe(run.folder, records=tmp_path / "odd.csv", others=rest)


def test_the_command_prints_a_table_and_json(recorded, tmp_path):
    np.savez(tmp_path / "mine.npz", records=recorded.x.numpy(), labels=recorded.y.numpy())
    np.savez(tmp_path / "others.npz", records=recorded.others.numpy())
    command = ["probe", str(recorded.folder), "--records", str(tmp_path / "mine.npz")]
    command += ["--others", str(tmp_path / "others.npz"), "--network", "someones.task:Net"]
    command += ["--app", str(recorded.project), "--out", str(tmp_path), "--members"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "16 of 16 members (100.0 %) are recognized" in " ".join(done.stdout.split())
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert told["updates"][0]["at"][0]["found"] == RECORDS


def test_a_recording_cut_short_and_a_network_that_cannot_be_had_are_one_line(recorded, tmp_path):
    folder = write(tmp_path, "cut", recorded.network.state_dict(), [step(recorded.network, recorded.x, recorded.y)])
    lines = folder / "wire" / "messages.jsonl"
    lines.write_text(lines.read_text()[:-40])
    found = fedinv.probe(folder, recorded.network, records=recorded.x, others=recorded.others)
    assert found.headline == "Nothing was probed, as the recording holds no update."
    assert len(found.notes) == 1
    with pytest.raises(RequestError, match="--network: someones.task has no 'Nett' .did you mean 'Net'?"):
        recorded.probe(network="someones.task:Nett")
    with pytest.raises(RequestError, match="--network: someone.task cannot be imported"):
        recorded.probe(network="someone.task:Net")
    with pytest.raises(RequestError, match="--network: is needed for a recording"):
        recorded.probe(network=None)
    with pytest.raises(RequestError, match="is neither a recording, as fedinv record makes, nor a run"):
        fedinv.probe(tmp_path / "hospital", records=recorded.x, others=recorded.others)
