"""Attacks on convolutional networks: what can be matched is, what cannot be read is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.task.columns import Image
from fedinv.task.models import build, state
from fedinv.task.networks.convolutional import Convnet, Lenet
from fedinv.task.schema import Schema
from server.attacks.exact import Exact
from server.attacks.gradient_matching import GradientMatching
from server.attacks.row_space import RowSpace
from server.inversion.distortion import UNDISTORTED
from server.inversion.matching.matcher import matching
from server.inversion.matching.presets import settled

SCHEMA = Schema(
    columns=(Image(name="photo", channels=1, down=8, across=8, mean=0.4, std=0.3, low=0, high=1),),
    label="what",
    classes=("a", "b", "c", "d"),
)
KNOWS = Knowledge(
    model=Lenet(), loss="cross-entropy", schema=SCHEMA, algorithm="fedsgd", lr=0.1, batch_size=2, epochs=1, defenses=()
)
SMALL = Convnet(channels=(8, 16))
NORMALIZED = Convnet(channels=(8, 16), norm="batch")


def _pictures(n):
    """Bright shapes on a dark ground, as inputs."""
    down, across = np.mgrid[0:8, 0:8]
    shapes = [
        np.hypot(down - 3.5 - i, across - 3) < 2.5 if i % 2 else (abs(down - 2 - i) < 2) | (abs(across - 5) < 1)
        for i in range(n)
    ]
    shades = np.array([0.9 * shape + 0.05 * across / 8 for shape in shapes]).reshape(n, -1)
    return SCHEMA.encode({"photo": shades})


def _see(model, n=2, seed=0):
    """One step's observation with the batch behind it."""
    x, y = _pictures(n), torch.arange(n) % 4
    network = build(model, SCHEMA.shape, 4, seed)
    sent = {name: t.clone() for name, t in state(network).items()}
    gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
    received = {name: t - sent[name] for name, t in state(network).items()}
    received |= {name: -0.1 * g for (name, _), g in zip(network.named_parameters(), gradients, strict=True)}
    return Observation((0,), (Exchange(1, sent, received, n),)), x, y


def _run(attack, seen, knows, seed=0):
    return attack.run(seen, knows, np.random.default_rng(seed), lambda share: None)


def _psnr(claimed, true):
    """Least over the records, each beside the claim that is most like it."""
    pixels = [torch.from_numpy(SCHEMA.decode(x)["photo"]) for x in (claimed, true)]
    error = (pixels[0][:, None] - pixels[1][None]).square().mean(2).amin(0)
    return float((-10 * error.log10()).min())


@pytest.mark.parametrize(("model", "n"), [(Lenet(), 1), (Lenet(), 2), (SMALL, 2)], ids=str)
def test_images_are_rebuilt_with_their_labels(model, n):
    seen, x, y = _see(model, n)
    claim = _run(GradientMatching(iterations=200), seen, replace(KNOWS, model=model))
    assert sorted(claim.labels.tolist()) == y.tolist()
    assert _psnr(claim.records, x) > 22
    assert float(claim.confidence.min()) > 0.9
    assert claim.mismatch < 0.1
    assert claim.fields.shape == (n, 64)


@pytest.mark.slow
def test_statistics_from_the_wire_help_see_through():
    seen, x, _ = _see(NORMALIZED)
    knows = replace(KNOWS, model=NORMALIZED)
    few = {"preset": "see-through", "iterations": 200, "restarts": 1}
    by = [_run(GradientMatching(**few, statistics=weight), seen, knows) for weight in (0.1, 0.0)]
    assert _psnr(by[0].records, x) > _psnr(by[1].records, x) + 1


def test_statistics_are_read_off_the_wire_exactly():
    seen, x, y = _see(NORMALIZED)
    knows, cpu = replace(KNOWS, model=NORMALIZED), torch.device("cpu")
    labels = one_hot(y, 4).float()[None]
    values = []
    for other in (seen, replace(seen, exchanges=(replace(seen.last, received=_without_statistics(seen.last)),))):
        match = matching(other.last, knows, UNDISTORTED, settled("see-through", {"statistics": 1.0}), 0.1, cpu)
        values.append(float(match.objective(x[None], labels)[0]))
    assert values[0] < 1e-3
    assert values[1] > 1


def _without_statistics(last):
    return {name: t for name, t in last.received.items() if "running" not in name}


@pytest.mark.parametrize("model", [Lenet(), SMALL, NORMALIZED], ids=str)
def test_nothing_is_claimed_on_noise(model):
    seen, _, _ = _see(model)
    generator = torch.Generator().manual_seed(1)
    for kept in (True, False):
        noise = {}
        for name, t in seen.last.received.items():
            white = torch.randn(t.shape, generator=generator)
            noise[name] = white * (t.norm() / white.norm() if kept else 0.01)
        other = replace(seen, exchanges=(replace(seen.last, received=noise),))
        claim = _run(GradientMatching(iterations=80), other, replace(KNOWS, model=model))
        assert len(claim.records) == 0
        assert "is chance" in claim.notes[0]


def test_withheld_shapes_and_too_many_unknowns_are_named():
    seen, _, _ = _see(Lenet())
    assert "the shape of the images" in _run(GradientMatching(), seen, replace(KNOWS, schema=None)).notes[0]
    crowd = replace(seen, exchanges=(replace(seen.last, records=100),))
    assert "100 records have 6400 unknowns" in _run(GradientMatching(), crowd, KNOWS).notes[0]


@pytest.mark.parametrize("attack", [Exact(), RowSpace()], ids=lambda attack: attack.kind)
def test_what_a_convolution_hides_is_said_in_numbers(attack):
    seen, _, _ = _see(Lenet())
    (note,) = _run(attack, seen, KNOWS).notes
    assert note.startswith("nothing claimed: the network begins with a convolution")
    assert "12 kernels of 1 x 5 x 5 inputs has a rank of 12 at most" in note
    assert "2 x 16 patches of 2 records" in note
    (note,) = _run(attack, seen, replace(KNOWS, schema=None)).notes
    assert "each of 2 records goes into it" in note
