"""The ordinary verdict beside what verified itself: which claims were right, by the judge of scenarios."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app
from fedinv.errors import RequestError

from .conftest import step, write

SECRET = "4711"


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """One step of a perceptron on eight rows of five numbers: its folder, network, inputs and labels."""
    folder = tmp_path_factory.mktemp("table")
    torch.manual_seed(3)
    network = perceptron(5)
    x, y = torch.randn(8, 5), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    write(folder, "rec", sent, [step(network, x, y)])
    return folder / "rec", network, x, y


def perceptron(inputs):
    return nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))


def csv_of(path, x, y, heads="a,b,c,d,e,ill"):
    rows = [[*map(repr, map(float, row)), str(int(label))] for row, label in zip(x, y, strict=True)]
    path.write_text("\n".join([heads, *(",".join(row) for row in rows)]) + "\n")
    return path


def test_claims_are_held_against_the_records_of_a_table(table, tmp_path):
    folder, network, x, y = table
    found = fedinv.attack_recording(folder, network, truth=csv_of(tmp_path / "t.csv", x, y), out=tmp_path)
    (one,) = found.judged
    assert (one.records, one.claimed, one.right, one.verified, one.verified_right) == (8, 8, 8, 8, 8)
    assert (one.labels_right, one.inputs) == (8, "record")
    assert (one.recovered.value, one.exact.value, one.fields.value) == (1, 1, 1)
    assert one.recovered.prior < 0.5
    told = json.loads((tmp_path / "verdict.json").read_text())
    assert told["judged"][0]["right"] == 8
    assert "verified" in told["updates"][0]


def test_claims_of_other_records_are_wrong(table):
    folder, network, x, _ = table
    other = torch.cat([x[:3], torch.randn(5, 5, generator=torch.Generator().manual_seed(9))])
    (one,) = fedinv.attack_recording(folder, network, truth=other).judged
    assert (one.right, one.verified_right, one.verified, one.labels_right) == (3, 3, 8, None)
    assert one.recovered.value == 3 / 8
    assert fedinv.attack_recording(folder, network).judged == []


def test_features_are_judged_where_only_these_are_read(recorded, tmp_path):
    sent = {name: tensor.clone() for name, tensor in recorded.network.state_dict().items()}
    folder = write(tmp_path, "few", sent, [step(recorded.network, recorded.x[:4], recorded.y[:4])])
    (one,) = fedinv.attack_recording(folder, recorded.network, truth=recorded.x[:4]).judged
    assert (one.inputs, one.records) == ("features", 4)
    assert one.right == one.recovered.value * 4 > 0
    assert "judged are the features that enter the layer" in one.notes


def test_what_did_not_verify_itself_is_judged_too(table, tmp_path):
    _, network, x, y = table
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    noisy = step(network, x, y, noise=1e-5)
    (one,) = fedinv.attack_recording(write(tmp_path, "noisy", sent, [noisy]), network, truth=x).judged
    assert one.claimed >= one.verified
    assert one.fields.prior <= one.fields.value <= 1


def test_records_of_several_updates_are_kept_apart(table, tmp_path):
    _, network, x, y = table
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folder = write(tmp_path, "two", sent, [step(network, x[:4], y[:4]), step(network, x[4:], y[4:])])
    csv_of(tmp_path / "t.csv", torch.cat([torch.tensor([[0.0]] * 4 + [[1.0]] * 4), x], 1), y, "update,a,b,c,d,e,ill")
    text = (tmp_path / "t.csv").read_text().replace("\n0.0,", "\n0,").replace("\n1.0,", "\n1,")
    (tmp_path / "t.csv").write_text(text)
    found = fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv").judged
    assert [(one.update, one.client, one.records, one.right) for one in found] == [(0, 0, 4, 4), (1, 1, 4, 4)]
    with pytest.raises(RequestError, match="--truth: there are 2 updates: say which of them each record is behind"):
        fedinv.attack_recording(folder, network, truth=x)
    np.savez(tmp_path / "t.npz", records=x.numpy(), update=np.full(8, 2))
    with pytest.raises(RequestError, match="--truth: 'update' counts from 0 to 1"):
        fedinv.attack_recording(folder, network, truth=tmp_path / "t.npz")


def test_a_table_with_texts_is_encoded_as_a_scenario_s(tmp_path):
    rows = [("a", 31), ("b", 45), ("a", 52), ("b", 60), ("a", 38), ("b", 41)]
    lines = [f"{ward},{age},{'yes' if age > 45 else 'no'}" for ward, age in rows]
    (tmp_path / "t.csv").write_text("\n".join(["ward,age,ill", *lines]) + "\n")
    ages = np.array([age for _, age in rows], float)
    x = np.stack([[w == "a", w == "b", (age - ages.mean()) / ages.std()] for w, age in rows]).astype(np.float32)
    torch.manual_seed(0)
    network = perceptron(3)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    back = step(network, torch.from_numpy(x), torch.tensor([int(age > 45) for _, age in rows]))
    folder = write(tmp_path, "rec", sent, [back])
    (one,) = fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv").judged
    assert one.records == 6
    assert one.fields.count == 12  # two columns a record, not three inputs
    assert one.right == one.labels_right > 0
    assert "categories one-hot" in one.notes[0]
    (tmp_path / "t.csv").write_text(f"ward,age,town,ill\na,31,{SECRET}x,no\nb,45,y,yes\na,52,y,yes\n")
    with pytest.raises(RequestError, match="encodes to 5 inputs, and the network has 3") as caught:
        fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("column", range(6))
def test_a_truth_with_an_empty_cell_is_refused_by_column_and_row(table, tmp_path, column):
    folder, network, x, y = table
    lines = csv_of(tmp_path / "t.csv", x, y).read_text().splitlines()
    cells = lines[3].split(",")
    cells[column] = ""
    (tmp_path / "t.csv").write_text("\n".join([*lines[:3], ",".join(cells), *lines[4:]]) + "\n")
    said = (
        f"column '{lines[0].split(',')[column]}' has no value in row 4: write there what the app feeds to its network"
    )
    with pytest.raises(RequestError, match=said):
        fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv")


@pytest.mark.parametrize(("row", "column"), [("a,,yes", "age"), (",52,yes", "ward"), ("a,52,", "ill")])
def test_a_gap_in_a_table_of_texts_is_not_filled_by_a_guess(tmp_path, row, column):
    torch.manual_seed(0)
    network = perceptron(3)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folder = write(tmp_path, "rec", sent, [step(network, torch.randn(3, 3), torch.tensor([0, 1, 0]))])
    (tmp_path / "t.csv").write_text(f"ward,age,ill\na,31,no\nb,45,no\n{row}\n")
    with pytest.raises(RequestError, match=f"column '{column}' has no value in row 4"):
        fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv")


@pytest.mark.slow
def test_a_table_of_texts_says_which_update_its_rows_are_behind(tmp_path):
    wards, ages = ["a", "b", "a", "b"] * 2, np.array([31, 45, 52, 60, 38, 41, 57, 44], float)
    x = torch.tensor(
        [[w == "a", w == "b", (age - ages.mean()) / ages.std()] for w, age in zip(wards, ages, strict=True)]
    ).float()
    y = torch.tensor([0, 1] * 4)
    torch.manual_seed(0)
    network = perceptron(3)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folder = write(tmp_path, "rec", sent, [step(network, x[:4], y[:4]), step(network, x[4:], y[4:])])
    rows = [f"{i // 4},{wards[i]},{ages[i]},{'yes' if y[i] else 'no'}" for i in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["update,ward,age,ill", *rows]) + "\n")
    judged = fedinv.attack_recording(folder, network, truth=tmp_path / "t.csv").judged
    assert [(one.update, one.records) for one in judged] == [(0, 4), (1, 4)]
    assert all(one.verified_right == one.verified for one in judged)
    assert sum(one.right for one in judged) > 4


def test_the_command_prints_both_verdicts(recorded, tmp_path):
    np.savez(tmp_path / "t.npz", records=recorded.x.numpy(), labels=recorded.y.numpy())
    command = ["read", str(recorded.folder), "--network", "someones.task:Net", "--app", str(recorded.project)]
    command += ["--seconds", "0.2", "--out", str(tmp_path), "--truth"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "t.npz")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "Against the truth:" in done.stdout
    (tmp_path / "bad.csv").write_text(f"a,b\n{SECRET},1\n")
    done = CliRunner().invoke(app, [*command, str(tmp_path / "bad.csv")])
    assert "has 2 columns, and the network has 64 inputs" in str(done.exception)
    assert SECRET not in str(done.exception)
