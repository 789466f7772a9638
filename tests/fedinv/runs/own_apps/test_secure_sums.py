"""An app behind SecAgg+: the masked replies are nobody's to read, the sum that the server sees is attacked."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app
from fedinv.errors import RequestError

MASKED = Path(__file__).parents[3] / "apps" / "masked"
ROUNDED_TO = 0.02


@pytest.fixture(scope="module")
def task():
    """The app's own module, with its data."""
    sys.path.insert(0, str(MASKED))
    yield importlib.import_module("masked.task")
    sys.path.remove(str(MASKED))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Records the app with a configuration, once for each."""
    done = {}

    def record(config="", nodes=3):
        if (config, nodes) not in done:
            folder = tmp_path_factory.mktemp("masked") / "rec"
            np.random.seed(0)  # noqa: NPY002 - it is what Flower's clients round by
            fedinv.record(MASKED, nodes=nodes, out=folder, run_config=config)
            done[config, nodes] = folder
        return done[config, nodes]

    return record


def people(task, nodes, rows=2):
    parts = [task.load_data(one, rows + one % 2, 1) for one in range(nodes)]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


@pytest.mark.filterwarnings("ignore")
def test_records_of_all_clients_are_read_off_the_sum_and_verified(recorded, task, tmp_path):
    folder, (x, y) = recorded(), people(task, 3)
    assert fedinv.open_recording(folder).updates == ()
    np.savez(tmp_path / "truth.npz", records=x.numpy(), labels=y.numpy())
    found = fedinv.attack_recording(folder, task.Net(), truth=tmp_path / "truth.npz", out=tmp_path)
    (one,), (judged,) = found.updates, found.judged
    assert (one.client, one.members, one.claimed, one.least, one.verified) == ("sum", 3, 7, 7, 7)
    assert 0 < one.mismatch < 0.01
    assert (judged.client, judged.verified_right, judged.right, judged.labels_right) == ("sum", 7, 7, 7)
    assert "sums of 3 clients alone, and not whose a record is" in found.headline
    claimed = torch.from_numpy(np.load(tmp_path / "claims.npz")["update-0-records"])
    assert float(torch.cdist(claimed, x).min(1).values.max()) < ROUNDED_TO
    assert "the clients of the sum report 7 together" in (tmp_path / "report.html").read_text()


@pytest.mark.filterwarnings("ignore")
def test_map_probe_and_gate_take_the_sum_like_an_update(recorded, task):
    folder, (x, _) = recorded(), people(task, 3)
    mapped = fedinv.leak_map(folder, task.Net())
    assert (mapped.client, mapped.records, mapped.claimed) == ("sum", 7, 7)
    assert mapped.layers[0].rank == 7
    probed = fedinv.probe(folder, task.Net(), records=x, others=torch.randn(200, 24), members=True)
    assert (probed.updates[0].client, probed.updates[0].at[0].found) == ("sum", 7)
    assert "in the update of round 1, the sum of its clients, and" in probed.headline
    command = ["gate", str(folder), "--network", "masked.task:Net", "--app", str(MASKED), "--limit", "0.5"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert "FAIL round 1, the sum of its clients: 7 of 7 records can be read off it" in done.stdout


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_rounding_that_hides_records_leaves_no_claim_and_no_rank(recorded, task):
    (one,) = fedinv.attack_recording(recorded("max-weight=1000.0"), task.Net(), seconds=3).updates
    assert (one.verified, one.least) == (0, 7)
    (one,) = fedinv.attack_recording(recorded("max-weight=100000.0"), task.Net(), seconds=3).updates
    assert one.verified == 0
    assert (one.least or 0) < 7


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "rounds", "said"),
    [
        ("strategy='avgm' num-server-rounds=2", [1], "round 2: 3 replies are masked by SecAgg., and .* is no mean"),
        (
            "strategy='adam'",
            [],
            "round 1: .* an optimizer of the server's, as FedAvgM or FedAdam, noise or other weights",
        ),
        ("evaluate=0.0", [], "round 1: .* no later message shows the model"),
        ("evaluate=0.0 num-server-rounds=2", [1], "round 2: .* no later message shows the model"),
    ],
)
def test_a_sum_that_is_not_seen_as_such_is_left_out_with_its_reason(recorded, task, config, rounds, said):
    folder = recorded(config)
    found = fedinv.attack_recording(folder, task.Net(), seconds=3)
    assert [one.round for one in found.updates] == rounds
    assert all(one.verified == 7 for one in found.updates)
    (line,) = found.skipped
    with pytest.raises(RequestError, match=said):
        fedinv.leak_map(folder, task.Net(), update=len(rounds))
    command = ["read", str(folder), "--network", "masked.task:Net", "--app", str(MASKED), "--seconds", "3"]
    assert line in CliRunner().invoke(app, command, env={"COLUMNS": "500"}).stdout


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_several_steps_of_each_client_verify_nothing(recorded, task):
    folder = recorded("local-epochs=3")
    (one,) = fedinv.attack_recording(folder, task.Net(), seconds=3).updates
    assert one.verified == 0
    steps = {"optimizer": "sgd:lr=0.5", "train_with": "epochs=3"}
    (one,) = fedinv.attack_recording(folder, task.Net(), seconds=3, **steps).updates
    assert one.verified == 0
    assert any("each client of the sum takes several steps" in note for note in one.notes)
    command = ["gate", str(folder), "--network", "masked.task:Net", "--app", str(MASKED)]
    command += ["--optimizer", "sgd:lr=0.5", "--train-with", "epochs=3"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, "nothing is known of what it tells" in done.stdout) == (1, True)
    assert CliRunner().invoke(app, [*command, "--unknown", "send"]).exit_code == 0
    known = {"optimizer": "sgd:lr=0.5", "train_with": "batch=4"}
    (one,) = fedinv.attack_recording(recorded(), task.Net(), **known).updates
    assert one.verified == 7


@pytest.mark.filterwarnings("ignore")
def test_a_round_of_which_not_all_clients_were_recorded_is_left_out(recorded, task, tmp_path):
    lines = [json.loads(line) for line in (recorded() / "wire" / "messages.jsonl").read_text().splitlines()]
    first = lines[1]["node"]
    gone = {line["key"] for line in lines if line.get("node") == first}
    (tmp_path / "wire").mkdir()
    for one in (recorded() / "wire").glob("*.safetensors"):
        (tmp_path / "wire" / one.name).write_bytes(one.read_bytes())
    kept = [json.dumps(line) for line in lines if line.get("key") not in gone]
    (tmp_path / "wire" / "messages.jsonl").write_text("\n".join(kept) + "\n")
    found = fedinv.attack_recording(tmp_path, task.Net())
    assert (found.updates, len(found.skipped)) == ([], 1)
    assert "2 of 3 clients were recorded: record all of a round, at the server" in found.skipped[0]
