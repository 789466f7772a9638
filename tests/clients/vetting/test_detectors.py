"""Each detector flags a deviation of a real server, and no model of a real training."""

import json

import pytest
import torch

from fedinv import plugins
from fedinv.detector import Look, examine
from fedinv.engines import inline
from fedinv.scenario.reading import parse
from fedinv.storage import files
from fedinv.task.models import Mlp, build, state

KINDS = tuple(plugins.available("detectors"))
BY_DEVIATION = {
    "grid": {"row-cosines", "bias-size", "firing-rates", "last-layer-rank", "jump"},
    "blocks": {"broadcast-hash", "row-cosines", "last-layer-rank"},
    "inconsistency": {"broadcast-hash", "firing-rates", "bias-size"},
    "repeat": {"repeated-weights"},
}
"""Detectors that must flag each deviation at their default thresholds."""


def scenario(rounds, **server):
    return {
        "name": "vetted",
        "seed": 5,
        "secret": "00112233445566778899aabbccddeeff",
        "data": {"source": "hospital", "records": 200},
        "model": {"kind": "mlp", "hidden": [256, 128]},
        "federation": {"clients": 3, "rounds": rounds},
        "training": {"algorithm": "fedavg", "epochs": 2, "batch_size": 8, "records_per_client": 16, "lr": 0.05},
        "attacker": {"watch": {"rounds": [2], "clients": 1}},
        "vetting": [{"kind": kind} for kind in KINDS],
        "server": server,
    }


@pytest.fixture
def found(tmp_path):
    """What the detectors found in a run, by detector: rounds in which any client flagged the weights."""

    def found(document):
        inline.train(parse(document, "test"), tmp_path)
        rows = json.loads((tmp_path / "vetting.json").read_text())["found"]
        assert all(row["looked"] <= 3 for row in rows)
        assert {row["detector"] for row in rows} == {one["kind"] for one in document["vetting"]}
        return {kind: {r["round"] for r in rows if r["detector"] == kind and r["flagged"]} for kind in KINDS}

    return found


def test_no_round_of_honest_training_is_flagged(found):
    assert found(scenario(4)) == {kind: set() for kind in KINDS}


@pytest.mark.parametrize("deviation", list(BY_DEVIATION))
def test_a_deviation_is_flagged_in_its_round_and_the_round_before_it_is_not(found, deviation):
    keys = {"times": 2} if deviation == "repeat" else {}
    flagged = found(scenario(2, kind="malicious", deviations=[{"kind": deviation, **keys}]))
    assert {kind for kind, rounds in flagged.items() if 2 in rounds} >= BY_DEVIATION[deviation]
    assert all(1 not in rounds for rounds in flagged.values())


def test_every_detector_but_two_with_weights_of_their_own_below_is_held_against_a_deviation():
    assert set().union(*BY_DEVIATION.values()) == set(KINDS) - {"d-snr", "transmit-snr"}


def test_units_that_hand_on_one_input_each_are_flagged():
    weights = {"0.weight": torch.eye(20) + 0.01, "0.bias": torch.zeros(20)}
    detector = plugins.load("detectors", "transmit-snr")()
    assert detector.score(weights, Look()) == pytest.approx(1.01 / 0.19, rel=1e-5)
    assert detector.score(weights, Look()) > detector.threshold


def test_weights_that_bring_out_one_record_of_a_batch_are_flagged_by_its_share_of_the_gradient():
    """Wen et al. 2022, fishing by a feature: the last hidden layer fires for one record alone."""
    generator = torch.Generator().manual_seed(0)
    network = build(Mlp(hidden=(32, 16)), (20,), 2, 3)
    inputs, labels = torch.randn(24, 20, generator=generator), torch.arange(24) % 2
    honest = {name: tensor.detach().clone() for name, tensor in state(network).items()}
    fished = {name: tensor.clone() for name, tensor in honest.items()}
    direction = torch.randn(20, generator=generator)
    heights = (inputs @ direction).sort().values
    fished["0.weight"][:] = direction
    fished["0.bias"][:] = -(heights[-1] + heights[-2]) / 2
    detector = plugins.load("detectors", "d-snr")()
    look = Look(network, inputs, labels)
    assert detector.score(fished, look) > detector.threshold
    assert detector.score(honest, look) < 1


def test_a_record_s_gradient_is_that_of_the_record_alone():
    """Linear layers and convolutions against one backward pass a record."""
    layers = plugins.load("detectors", "d-snr").score.__globals__["record_gradients"]
    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 6, 6)),
        torch.nn.Conv2d(1, 3, 3, padding=1, stride=2),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(27, 4),
    )
    inputs, labels = torch.randn(5, 36), torch.arange(5) % 4
    weights = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    found = layers(weights, Look(network, inputs, labels))
    for at in range(5):
        network.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs[at : at + 1]), labels[at : at + 1]).backward()
        for norms, module in zip(found, (network[1], network[4]), strict=True):
            own = torch.cat([module.weight.grad.flatten(), module.bias.grad]).norm()
            assert float(norms[at]) == pytest.approx(float(own), rel=1e-4)


def test_findings_hold_score_and_threshold_together():
    detector = plugins.load("detectors", "bias-size")
    weights = {"0.weight": torch.eye(8), "0.bias": torch.full((8,), 3.0)}
    low, high = examine([detector(threshold=2.9), detector(threshold=3.0)], weights, Look())
    assert low.score == high.score == pytest.approx(3.0)
    assert low.flagged
    assert not high.flagged


def test_a_run_without_detectors_writes_nothing_of_them(tmp_path):
    document = scenario(2)
    del document["vetting"]
    inline.train(parse(document, "test"), tmp_path)
    assert not (tmp_path / "vetting.json").exists()
    assert files.read_json(tmp_path / "checkpoint" / "progress.json")["left_out"] == []
