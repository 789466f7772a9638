import json

import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.cli import main
from fedinv.data.canaries import plant
from fedinv.errors import RequestError
from fedinv.runs.run import quiet
from fedinv.scenario.reading import read
from fedinv.studies.audit import GAUSSIAN, audit
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp

SMALL = ["federation.clients=10", "audit.clients=100"]


def audited(name, tmp_path, *settings):
    return audit(read(name, [*SMALL, *settings]), tmp_path, quiet)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("redteam-half-noise", ()),
        pytest.param("redteam-sensitivity", ("audit.clients=200",), marks=pytest.mark.slow),
        pytest.param("redteam-per-round", (), marks=pytest.mark.slow),
        pytest.param("redteam-flower-local-dp", ("federation.rounds=20", "audit.clients=40"), marks=pytest.mark.slow),
        pytest.param("redteam-overflow", ("federation.clients=40", "federation.rounds=4"), marks=pytest.mark.slow),
    ],
)
def test_the_red_team_is_found_out(name, settings, tmp_path):
    found = audited(name, tmp_path, *settings)
    assert found.verdict == "FAIL"
    assert max(found.lower_bounds.values()) > found.claimed


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("redteam-half-noise", ("defenses.0.noise_share=1.0",)),
        ("redteam-overflow", ("defenses.0.guard=true", "federation.clients=40", "federation.rounds=4")),
        pytest.param(
            "redteam-per-round",
            ('defenses=[{kind="distributed-noise",noise_multiplier=6},{kind="masking"}]', "audit={clients=60}",
             "federation.rounds=3"),
            marks=pytest.mark.slow,
        ),
        pytest.param("redteam-per-round", ('defenses=[{kind="central-dp",noise_multiplier=6}]', "audit={clients=60}",
                               "federation.rounds=3"), marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_healthy_mechanism_is_not_accused(name, settings, tmp_path):
    found = audited(name, tmp_path, *settings)
    assert found.verdict == "not contradicted"
    assert "no proof" in found.says


@pytest.mark.slow
def test_noise_shared_over_a_sum_is_measured_where_it_is(tmp_path):
    settings = ('defenses=[{kind="distributed-noise",noise_multiplier=1.5},{kind="masking"}]', "audit={clients=60}")
    found = audited("redteam-half-noise", tmp_path, *settings)
    assert 0.3 * found.claimed < found.lower_bounds[GAUSSIAN] < found.claimed


@pytest.mark.slow
def test_records_that_are_canaries_are_told_from_little_noise(tmp_path):
    settings = ("defenses.0.noise_multiplier=0.4", "training.batch_size=16", "federation.clients=8")
    found = audit(read("hospital-dp", ["model.hidden=[64]", "training.algorithm=fedsgd", *settings]), tmp_path, quiet)
    assert found.verdict == "not contradicted"
    assert found.unit == "example"
    assert found.lower_bounds[GAUSSIAN] > 1.0


def test_canaries_stand_in_for_every_second_record_and_absent_ones_are_never_drawn():
    network = build(Mlp(hidden=(8,)), (5,), 3, seed=1)
    one, two = (plant(torch.zeros(20, 5), torch.zeros(20).long(), network, 3, 4) for _ in range(2))
    assert torch.equal(one.inputs, two.inputs)
    assert one.canaries.tolist() == list(range(0, 20, 2))
    assert torch.equal(one.labels[one.canaries], network(one.inputs[one.canaries]).argmin(1))
    (left,) = one.drawn((np.arange(20),))
    assert sorted(left) == sorted(set(range(20)) - set(one.canaries[~one.present].tolist()))


def test_what_claims_nothing_cannot_be_audited(tmp_path):
    with pytest.raises(RequestError, match="nothing to audit: no defense of hospital claims"):
        audit(read("hospital"), tmp_path, quiet)


def test_records_behind_an_adaptive_optimizer_are_not_looked_for_in_sums_of_gradients(tmp_path):
    with pytest.raises(RequestError, match=r"training.optimizer: .* adam sends none: write optimizer = \"sgd\""):
        audit(read("hospital-dp", ["training.optimizer=adam"]), tmp_path, quiet)


@pytest.mark.slow
def test_clients_are_found_whatever_they_train_by_and_the_server_does(tmp_path):
    settings = ("federation.strategy=fedadam", "training.optimizer=adam", "training.algorithm=fedavg",
                "training.proximal=0.1", "training.local_schedule=cosine")  # fmt: skip
    found = audited("redteam-half-noise", tmp_path, *settings)
    assert found.verdict == "FAIL"


def test_poisoned_weights_need_two_layers_and_a_malicious_server():
    with pytest.raises(RequestError, match="overflow"):
        read("redteam-overflow", ["server.kind=curious"])
    with pytest.raises(ValueError, match="two linear layers"):
        roles.load("server", "malicious.overflow").overflowing(
            {"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(2)}
        )


def test_the_command_exits_with_1_and_writes_its_findings(tmp_path, monkeypatch, capsys):
    arguments = ["audit", "redteam-half-noise", "--out", str(tmp_path / "a"), "--json", "--set", "audit.clients=100"]
    monkeypatch.setattr("sys.argv", ["fedinv", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "FAIL"
    assert json.loads((tmp_path / "a" / "audit.json").read_text())["lower_bounds"] == said["lower_bounds"]
