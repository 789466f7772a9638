"""Gradient matching beside breaching 0.1.2 (Geiping et al.): the same weights, updates and truth, in one run.

breaching runs in a virtual environment of its own, which the first run creates in the user's cache folder.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_breast_cancer, load_sample_images
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.peers import breaching_driver
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.task.networks.perceptron import Mlp
from server.attacks.gradient_matching import GradientMatching
from server.inversion.matching.network import Network, differentiable
from server.inversion.matching.optimize import Descent, Problem, descend
from server.inversion.matching.presets import PRESETS, Name, Preset, settled
from server.inversion.matching.priors import total_variation
from server.inversion.matching.relaxation import Relaxation

VERSION = "breaching==0.1.2"
SEEDS = 3
RESTARTS = 16
MLP = [["linear", 30, 100], ["relu"], ["linear", 100, 100], ["relu"], ["linear", 100, 2]]
LENET = [
    *(["conv", 3, 12, 5, 2, 2], ["sigmoid"], ["conv", 12, 12, 5, 2, 2], ["sigmoid"]),
    *(["conv", 12, 12, 5, 1, 2], ["sigmoid"], ["flatten"], ["linear", 768, 10]),
]
CONVNET = [
    *(["conv", 3, 32, 3, 1, 1], ["relu"], ["conv", 32, 64, 3, 1, 1], ["relu"], ["pool", 2]),
    *(["conv", 64, 128, 3, 1, 1], ["relu"], ["pool", 2], ["conv", 128, 112, 3, 1, 1], ["relu"], ["pool", 2]),
    *(["flatten"], ["linear", 1792, 10]),
]
IMAGES = {("lenet", 1): 2_400, ("lenet", 4): 2_400, ("convnet", 1): 4_800, ("convnet", 4): 1_200}
"""Iterations of both attacks by network and batch size."""
MEAN, STD = 0.45, 0.25
"""Mean and standard deviation by which pixels between 0 and 1 are standardized."""


@dataclass(frozen=True)
class Case:
    """A network, its gradient on a batch, and the batch."""

    layers: list[list]
    weights: dict[str, Tensor]
    gradients: dict[str, Tensor]
    records: Tensor
    labels: Tensor

    @property
    def image(self) -> bool:
        """Whether the records are images."""
        return self.records.ndim == 4


def main() -> None:
    """Print both attacks' errors and CPU seconds, one torch thread each, as means over the seeds.

    MSE in squared standard deviations for tables, PSNR in decibels for images.
    """
    torch.set_num_threads(1)
    python = _environment()
    for n in (1, 4, 8):
        _tables(python, n)
    for (name, n), iterations in IMAGES.items():
        _images(python, name, n, iterations)


def _tables(python: Path | None, n: int) -> None:
    """MLP 100-100 on breast-cancer, 2,400 iterations, `RESTARTS` restarts against breaching's one."""
    attack = GradientMatching(preset="inverting-gradients", iterations=2_400, restarts=RESTARTS)
    ours, theirs = [], []
    for seed in range(SEEDS):
        case = _breast_cancer(n, seed)
        update = {name: -0.1 * g for name, g in case.gradients.items()}
        seen = Observation((0,), (Exchange(1, case.weights, update, n),))
        knows = Knowledge(Mlp(hidden=(100, 100)), "cross-entropy", None, "fedsgd", 0.1, n, 1, 0.0, 0.0)
        begun = time.process_time()
        claim = attack.run(seen, knows, np.random.default_rng(seed), lambda _: None)
        seconds = time.process_time() - begun
        ours.append((_error(claim.records, case.records), 2_400 * RESTARTS / seconds))
        if python is not None:
            records, seconds = _breaching(python, case, 2_400, 0.0)
            theirs.append((_error(records, case.records), 2_400 / seconds))
    _print(f"MLP 30-100-100-2, batch {n}", "MSE {:.1e}, {:,.0f} iterations a second and restart", ours, theirs)


def _images(python: Path | None, name: str, n: int, iterations: int) -> None:
    """One restart each; breaching with its own weight of the total variation and with the one used here."""
    presets: tuple[Name, ...] = ("inverting-gradients", "fedinv")
    variations = {"its variation": 0.2, "our variation": PRESETS["inverting-gradients"].total_variation}
    ours: dict[Name, list[tuple[float, float]]] = {preset: [] for preset in presets}
    theirs: dict[str, list[tuple[float, float]]] = {label: [] for label in variations}
    for seed in range(1 if name == "convnet" else SEEDS):
        case = _pictures(LENET if name == "lenet" else CONVNET, n, seed)
        for preset, results in ours.items():
            begun = time.process_time()
            found = _searched(case, settled(preset, {}, True, name == "lenet"), iterations, seed)
            results.append((_psnr(found, case.records), iterations / (time.process_time() - begun)))
        if python is not None:
            for label, variation in variations.items():
                records, seconds = _breaching(python, case, iterations, variation)
                theirs[label].append((_psnr(records, case.records), iterations / seconds))
    for preset, results in ours.items():
        _print(f"{name} {n} {preset}", "{:.1f} dB, {:.1f} iterations a second", results, [])
    for label, results in theirs.items():
        if results:
            _print(f"{name} {n} breaching, {label}", "{:.1f} dB, {:.1f} iterations a second", results, [])


def _print(title: str, form: str, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    quality, rate = np.mean(ours, 0)
    line = f"{title:44} " + form.format(quality, rate)
    if theirs:
        other, slower = np.mean(theirs, 0)
        line += "; breaching " + form.format(other, slower) + f": {rate / slower:.1f} times as fast"
    print(line, flush=True)


def _searched(case: Case, preset: Preset, iterations: int, seed: int) -> Tensor:
    """Run gradient-matching's search on a network that no scenario can declare."""
    net = breaching_driver.network(case.layers)
    net.load_state_dict(case.weights)
    net = torch.nn.Sequential(torch.nn.Unflatten(1, case.records.shape[1:]), net)
    gradients = {f"1.{name}": g for name, g in case.gradients.items()}
    scales = {name: float(g.norm()) ** -preset.balance for name, g in gradients.items()}
    scaled = {name: g * scales[name] for name, g in gradients.items()}
    size = float(torch.cat([g.flatten() for g in scaled.values()]).norm())
    n, width = len(case.records), case.records[0].numel()
    target = {name: g / size for name, g in scaled.items()}
    objective = Network(differentiable(net), width, target, size=size, scales=scales)
    low, span = torch.full((width,), -MEAN / STD), torch.full((width,), 1 / STD)
    box = Relaxation(width, low, span, torch.zeros(width, 0), "box")
    prior = total_variation(preset.total_variation, tuple(case.records.shape[1:]))
    start = torch.randn(1, n, width, generator=torch.Generator().manual_seed(seed))
    how = Descent(iterations, preset.lr, rule=preset.rule, schedule=preset.schedule)
    labels = one_hot(case.labels, 10).float()[None]
    found = descend(start, labels, Problem(objective, box, (prior,)), how, lambda _: None)
    return found.inputs[0].reshape(case.records.shape)


def _breast_cancer(n: int, seed: int) -> Case:
    data = load_breast_cancer()
    rows = np.random.default_rng(seed).permutation(len(data.target))[:n]
    table = (data.data - data.data.mean(0)) / data.data.std(0)
    return _case(MLP, torch.from_numpy(table[rows]).float(), torch.from_numpy(data.target[rows]), seed)


def _pictures(layers: list[list], n: int, seed: int) -> Case:
    """Crops of the two photographs that scikit-learn ships, scaled to 32 x 32 pixels; each has a label of its own."""
    photographs, rng = load_sample_images().images, np.random.default_rng(seed)
    crops = []
    for i in range(n):
        photograph = photographs[i % 2].astype(np.float32) / 255
        top, left = (int(rng.integers(0, size - 256)) for size in photograph.shape[:2])
        crop = photograph[top : top + 256, left : left + 256]
        crops.append(crop.reshape(32, 8, 32, 8, 3).mean((1, 3)).transpose(2, 0, 1))
    return _case(layers, (torch.from_numpy(np.stack(crops)) - MEAN) / STD, torch.arange(n), seed)


def _case(layers: list[list], records: Tensor, labels: Tensor, seed: int) -> Case:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = breaching_driver.network(layers)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    gradients = torch.autograd.grad(cross_entropy(net(records), labels), list(net.parameters()))
    return Case(layers, weights, dict(zip(weights, gradients, strict=True)), records, labels)


def _error(claimed: Tensor, truth: Tensor) -> float:
    if len(claimed) != len(truth):
        return float("nan")
    apart = torch.cdist(truth, claimed.reshape(truth.shape)).square().numpy() / truth.shape[1]
    return float(apart[linear_sum_assignment(apart)].mean())


def _psnr(claimed: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio, dB, of standardized images for pixels between 0 and 1, averaged over images."""
    return float((-10 * ((claimed - truth) * STD).square().flatten(1).mean(1).log10()).mean())


def _breaching(python: Path, case: Case, iterations: int, variation: float) -> tuple[Tensor, float]:
    """The records that breaching finds, and its CPU seconds."""
    pixel = np.full(3, 1.0) if case.image else np.full(1, np.nan)
    arrays = {
        **{f"w{i}": w.numpy() for i, w in enumerate(case.weights.values())},
        **{f"g{i}": g.numpy() for i, g in enumerate(case.gradients.values())},
        "layers": np.array(json.dumps(case.layers)),
        "labels": case.labels.numpy(),
        "shape": np.array(case.records.shape[1:]),
        "mean": pixel * MEAN,
        "std": pixel * STD,
        "iterations": np.array(iterations),
        "variation": np.array(variation),
    }
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "case.npz", Path(folder) / "result.npz"
        np.savez(before, **arrays)
        command = [str(python), str(Path(breaching_driver.__file__)), str(before), str(after)]
        alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=alone)
        with np.load(after) as result:
            return torch.from_numpy(result["records"]).float(), float(result["seconds"])


def _environment() -> Path | None:
    """The Python of an environment with breaching, made where it is not there yet; None where that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "fedinv-benchmarks" / VERSION.replace("==", "-")
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    check = [str(python), "-c", "import breaching"]
    if python.exists() and subprocess.run(check, capture_output=True, cwd=cache).returncode == 0:
        return python
    try:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", VERSION], check=True, capture_output=True)
        subprocess.run(check, check=True, capture_output=True, cwd=folder)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"{VERSION} does not install here ({type(error).__name__}); our own figures only")
        return None
    return python
