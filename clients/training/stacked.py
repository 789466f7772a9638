"""Local training of many clients as one: perceptrons whose weights are stacked, trained in closed form.

The same steps that `plain_sgd` and dp-sgd take for one client, written out as batched products over all clients of a
chunk: no graph, no autograd. A client's update depends on its own job alone, whoever is trained beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedinv.federation.streams import torch_stream
from fedinv.federation.training import Job, Update

CHUNK_BYTES = 1_500_000
"""Of stacked weights that are trained at once: as many as a core's cache holds beside their gradients."""
GPU_CHUNK_BYTES = 500_000_000
"""On a GPU, which wants more work at once."""

BACK: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda off, _, out: torch.ops.aten.threshold_backward(off, out, 0),
    nn.LeakyReLU: lambda off, _, out: torch.where(out > 0, off, 0.01 * off),
    nn.Tanh: lambda off, _, out: off * (1 - out.square()),
    nn.Sigmoid: lambda off, _, out: off * out * (1 - out),
    nn.GELU: lambda off, z, _: (
        off * ((1 + torch.erf(z / math.sqrt(2))) / 2 + z * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi))
    ),
}
"""An error on its way back through an activation, by the activation's input and output."""


def stackable(network: nn.Sequential) -> bool:
    """Whether the network is a perceptron: linear layers with one kind of activation between them."""
    layers = list(network)
    linear, between = layers[::2], layers[1::2]
    return (
        len(layers) % 2 == 1
        and all(type(layer) is nn.Linear and layer.bias is not None for layer in linear)
        and all(type(layer) in BACK for layer in between)
        and len({type(layer) for layer in between}) <= 1
    )


def chunks(jobs: Sequence[Job], device: torch.device) -> list[list[int]]:
    """Positions of the jobs, those of like length side by side, in chunks that suit the device."""
    if not jobs:
        return []
    bytes_each = sum(p.numel() * p.element_size() for p in jobs[0].network.parameters())
    size = max(1, (CHUNK_BYTES if device.type == "cpu" else GPU_CHUNK_BYTES) // bytes_each)
    order = sorted(range(len(jobs)), key=lambda i: (len(jobs[i].batches), len(jobs[i].inputs)), reverse=True)
    return [order[at : at + size] for at in range(0, len(order), size)]


@torch.no_grad()
def train(jobs: Sequence[Job], device: torch.device) -> list[Update]:
    """Train clients that start from the same weights; returns LOCAL MINUS GLOBAL of each.

    All jobs share one network, which is left as it is, and are sorted by their number of steps, most first.
    """
    network, settings = jobs[0].network, jobs[0].training
    clipped = jobs[0].clipping is not None
    start = [p.detach().to(device) for p in network.parameters()]
    weights = [p.expand(len(jobs), *p.shape).clone() for p in start]
    steps: list[Tensor] = []
    one_step = max(len(job.batches) for job in jobs) == 1
    plain = not (one_step or clipped or settings.momentum or settings.weight_decay)
    data = _Data.of(jobs, start[-1].shape[0], device)
    noise = _Noise.of(jobs, start) if clipped else None
    for step in range(data.index.shape[1]):
        active = data.active(step)
        at = [p[:active] for p in weights]
        offs, outs = _passed(at, network, data, step, active)
        if plain:
            for i, (off, out) in enumerate(zip(offs, outs, strict=True)):
                at[2 * i].baddbmm_(off.mT, out, alpha=-settings.lr)
                at[2 * i + 1].add_(off.sum(1), alpha=-settings.lr)
            continue
        gradients = [part for off, out in zip(offs, outs, strict=True) for part in (off.mT.bmm(out), off.sum(1))]
        if noise is not None:
            noise.add(gradients, active)
        if settings.weight_decay:
            torch._foreach_add_(gradients, at, alpha=settings.weight_decay)
        if settings.momentum and steps:
            steps = [one[:active] for one in steps]
            torch._foreach_mul_(steps, settings.momentum)
            torch._foreach_add_(steps, gradients)
        else:
            steps = gradients
        torch._foreach_add_(at, steps, alpha=-settings.lr)
    if one_step and not clipped:  # the product itself: no digits are lost in a difference
        moved = list(torch._foreach_mul(steps, -settings.lr))
    else:
        moved = [end.sub_(begun) for end, begun in zip(weights, start, strict=True)]
    names = [name for name, _ in network.named_parameters()]
    parts = [tensor.cpu().unbind() for tensor in moved]
    return [dict(zip(names, each, strict=True)) for each in zip(*parts, strict=True)]


@dataclass(frozen=True)
class _Data:
    """The records of all clients, and which of them each step uses."""

    jobs: Sequence[Job]
    inputs: Tensor
    """float32 (records of all clients, width)."""
    targets: Tensor
    """float32 (records, classes), or (records,) standardized targets."""
    index: Tensor
    """int64 (clients, steps, batch): rows; past the end of a batch any."""
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    """(clients, steps): how many there are."""
    clips: Tensor | None
    """float32 (clients,): norm to which records' gradients are cut; None where they are not."""

    @classmethod
    def of(cls, jobs: Sequence[Job], outputs: int, device: torch.device) -> Self:
        most = max(len(job.batches) for job in jobs)
        counts = np.zeros((len(jobs), most), np.int64)
        for i, job in enumerate(jobs):
            counts[i, : len(job.batches)] = [len(batch) for batch in job.batches]
        index = np.zeros((len(jobs), most, int(counts.max(initial=0))), np.int64)
        first = 0
        for i, job in enumerate(jobs):
            for step, batch in enumerate(job.batches):
                index[i, step, : len(batch)] = batch
            index[i] += first
            first += len(job.inputs)
        np.minimum(index, first - 1, out=index)
        labels = torch.cat([job.labels for job in jobs])
        targets = labels if labels.is_floating_point() else one_hot(labels, outputs).float()
        clips = [job.clipping.clip for job in jobs if job.clipping is not None]
        return cls(
            jobs,
            torch.cat([job.inputs for job in jobs]).to(device),
            targets.to(device),
            torch.from_numpy(index).to(device),
            counts,
            torch.tensor(clips, device=device) if clips else None,
        )

    def active(self, step: int) -> int:
        """How many clients have such a step: they come first."""
        return sum(len(job.batches) > step for job in self.jobs)

    def masks(self, step: int, active: int, width: int) -> Tensor | None:
        """What dropout makes of a layer's units, (clients, batch, width); None where there is none."""
        if self.jobs[0].masks is None:
            return None
        counts = self.counts[:active, step]
        drawn = torch.zeros(active, int(counts.max()), width)
        for i, job in enumerate(self.jobs[:active]):
            if job.masks is not None:
                drawn[i, : counts[i]] = job.masks(int(counts[i]), width)
        return drawn.to(self.inputs.device)


def _passed(
    weights: Sequence[Tensor], network: nn.Sequential, data: _Data, step: int, active: int
) -> tuple[list[Tensor], list[Tensor]]:
    """A step's passes forward and back: each layer's errors (clients, batch, units) and its inputs.

    Their products are the gradients of the mean loss of each client's batch, or the sum of its records' clipped ones.
    """
    counts = data.counts[:active, step]
    rows = data.index[:active, step, : max(1, int(counts.max()))]
    outs, passed = [data.inputs[rows]], []
    layers = len(weights) // 2
    for i in range(layers):
        z = torch.baddbmm(weights[2 * i + 1].unsqueeze(1), outs[-1], weights[2 * i].mT)
        if i < layers - 1:
            out, mask = network[2 * i + 1](z), data.masks(step, active, z.shape[2])
            passed.append((z, out, mask))
            outs.append(out if mask is None else out * mask)
    targets = data.targets[rows]
    off = torch.softmax(z, 2).sub_(targets) if targets.ndim == 3 else 2 * (z - targets.unsqueeze(2))
    ragged = bool((counts != rows.shape[1]).any())
    if data.clips is None:
        shares = torch.from_numpy((np.arange(rows.shape[1]) < counts[:, None]) / counts[:, None]) if ragged else None
        off = off.mul_(shares.float().to(off.device).unsqueeze(2)) if shares is not None else off.div_(rows.shape[1])
    offs = [off]
    for i in range(layers - 1, 0, -1):
        z, out, mask = passed[i - 1]
        off = torch.bmm(off, weights[2 * i])
        off = BACK[type(network[2 * i - 1])](off if mask is None else off.mul_(mask), z, out)
        offs.append(off)
    offs.reverse()
    if data.clips is not None:
        there = torch.from_numpy(np.arange(rows.shape[1]) < counts[:, None]).to(off.device)
        guard = any(job.clipping.guard for job in data.jobs if job.clipping is not None)
        return _clipped(offs, outs, data.clips[:active], there, guard)
    return offs, outs


def _clipped(
    offs: list[Tensor], outs: list[Tensor], clips: Tensor, there: Tensor, guard: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """The layers' errors and inputs, each record's error scaled so that its gradient is no longer than `clips`.

    A linear layer's gradient of one record is an outer product, of length |error| * |(input, 1)|: Goodfellow 2015
    (Efficient per-example gradient computations). One not `there` is dropped, as is, with `guard`, one not finite.
    """
    squares = torch.zeros_like(there, dtype=torch.float32)
    for off, out in zip(offs, outs, strict=True):
        squares += off.square().sum(2) * (out.square().sum(2) + 1)
    factors = (clips.unsqueeze(1) / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    usable = (there & squares.isfinite() if guard else there).unsqueeze(2)
    offs = [torch.where(usable, off * factors.unsqueeze(2), 0.0) for off in offs]
    return offs, [torch.where(usable, out, 0.0) for out in outs] if guard else outs  # 0 times infinity is no 0


@dataclass(frozen=True)
class _Noise:
    """What Opacus adds to a sum of clipped gradients, drawn as it draws it: a client, a step, a parameter at a time."""

    generators: Sequence[torch.Generator]
    spreads: Sequence[float]
    sizes: Tensor
    """(clients,) records that a step is expected to use."""
    shapes: Sequence[torch.Size]

    @classmethod
    def of(cls, jobs: Sequence[Job], parameters: Sequence[Tensor]) -> Self:
        return cls(
            [torch_stream(job.rng) for job in jobs],
            [job.clipping.noise_multiplier * job.clipping.clip for job in jobs if job.clipping is not None],
            torch.tensor([float(min(job.training.batch_size, len(job.inputs))) for job in jobs]),
            [p.shape for p in parameters],
        )

    def add(self, gradients: list[Tensor], active: int) -> None:
        """Add it, and divide by the size of a batch."""
        drawn = [torch.zeros(active, *shape) for shape in self.shapes]
        each = list(zip(*(tensor.unbind() for tensor in drawn), strict=True))
        for generator, spread, parts in zip(self.generators, self.spreads, each, strict=False):
            if spread:
                for part in parts:
                    part.normal_(0.0, spread, generator=generator)
        for gradient, noise in zip(gradients, drawn, strict=True):
            sizes = self.sizes[:active].view(-1, *[1] * (gradient.ndim - 1)).to(gradient.device)
            gradient.add_(noise.to(gradient.device)).div_(sizes)
