import numpy as np
import pytest
import torch
from flwr.supercore.task_identity import TaskIdentity

from fedinv import roles
from fedinv.privacy.claims import epsilon
from fedinv.runs import run
from fedinv.scenario.reading import loads

noised_mean = roles.load("server", "aggregation.central_dp").noised_mean
EXACT = '[[attacks]]\nkind = "exact"\nfall_back = false\n'
CENTRAL = '[[defenses]]\nkind = "central-dp"\nclip = 0.1\nnoise_multiplier = 3.0\n'


@pytest.fixture
def in_a_server_app(monkeypatch):
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1, raising=False)


def test_updates_are_clipped_and_the_mean_is_noised(in_a_server_app):
    sent = {"w": torch.zeros(30_000)}
    long = {"w": torch.full((30_000,), 7.0)}
    plain = noised_mean(sent, [long, {"w": torch.zeros(30_000)}], 0.5, 0.0, 1, 3)
    assert float(plain["w"].norm()) == pytest.approx(0.25, rel=1e-4)
    noised = noised_mean(sent, [long, long], 0.5, 4.0, 1, 3)
    assert noised["w"].std() == pytest.approx(4.0 * 0.5 / 2, rel=0.02)


def test_numpys_own_generator_is_left_as_it_was(in_a_server_app):
    np.random.seed(5)  # noqa: NPY002
    first = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    one, two = (noised_mean({"w": torch.zeros(4)}, [{"w": torch.ones(4)}], 1.0, 1.0, 1, 9) for _ in range(2))
    assert np.random.random() == first  # noqa: NPY002
    assert torch.equal(one["w"], two["w"])


def test_the_report_says_that_the_server_sees_the_updates_before_the_noise(tiny, tmp_path):
    scenario = loads(tiny.replace("hidden = [32, 16]", "hidden = [128]") + CENTRAL + EXACT)
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert not results.privacy.against_server
    assert "sees the updates before the noise" in results.headline
    assert results.attacks[0].recovered.value == results.attacks[0].undefended.recovered.value > 0.5
    # all clients take part in all three rounds: as many Gaussian mechanisms
    event = scenario.defenses[0].privacy_events(scenario.participation(6))[0]
    assert results.privacy.epsilon == pytest.approx(epsilon([event] * 3, 1e-5), rel=1e-6)


def test_a_sample_of_the_clients_is_charged_by_renyi_divergences(tiny, tmp_path):
    scenario = loads(tiny.replace("clients = 4", "clients = 4\nclients_per_round = 2") + CENTRAL)
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert results.privacy.accountant == "RDP"
    full = scenario.defenses[0].event(4, 4, 2)
    assert 0 < results.privacy.epsilon < 3 * epsilon([full] * 3, 1e-5)
