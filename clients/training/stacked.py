"""Local training of many clients' perceptrons in one stacked tensor, with gradients in closed form.

Takes the steps of `plain_training` and dp-sgd, by any optimizer, for all clients of a chunk as batched products,
without autograd. A client's update depends on its own job alone, not on the others of its chunk.
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
from fedinv.task.optimizers import Memory

CHUNK_BYTES = 1_500_000
"""Bytes of stacked weights per chunk on a CPU: what a core's cache holds along with their gradients."""
GPU_CHUNK_BYTES = 500_000_000
"""Bytes of stacked weights per chunk on a GPU, which needs more work at once."""

BACK: dict[type[nn.Module], Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda error, _, out: torch.ops.aten.threshold_backward(error, out, 0),
    nn.LeakyReLU: lambda error, _, out: torch.where(out > 0, error, 0.01 * error),
    nn.Tanh: lambda error, _, out: error * (1 - out.square()),
    nn.Sigmoid: lambda error, _, out: error * out * (1 - out),
    nn.GELU: lambda error, z, _: (
        error * ((1 + torch.erf(z / math.sqrt(2))) / 2 + z * torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi))
    ),
}
"""Backward pass of each activation: (gradient at its output, its input, its output) -> gradient at its input."""


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
    """Split the jobs into chunks that suit the device, by position; sorted by steps and records, most first."""
    if not jobs:
        return []
    bytes_each = sum(p.numel() * p.element_size() for p in jobs[0].network.parameters())
    size = max(1, (CHUNK_BYTES if device.type == "cpu" else GPU_CHUNK_BYTES) // bytes_each)
    order = sorted(range(len(jobs)), key=lambda i: (len(jobs[i].batches), len(jobs[i].inputs)), reverse=True)
    return [order[at : at + size] for at in range(0, len(order), size)]


@torch.no_grad()
def train(jobs: Sequence[Job], device: torch.device) -> list[Update]:
    """Train clients that start from the same weights, and return LOCAL MINUS GLOBAL of each.

    All jobs must share one network, which is not modified, and be sorted by their number of steps, most first.
    """
    network, descent = jobs[0].network, jobs[0].training.descent
    clipped = jobs[0].clipping is not None
    start = [p.detach().to(device) for p in network.parameters()]
    weights = [p.expand(len(jobs), *p.shape).clone() for p in start]
    moves: list[Tensor] = []
    memory = Memory()
    one_step = max(len(job.batches) for job in jobs) == 1
    plain = descent.plain and not (one_step or clipped)
    data = _Data.of(jobs, start[-1].shape[0], device)
    noise = _Noise.of(jobs, start) if clipped else None
    lrs = [descent.lrs(len(job.batches)) for job in jobs]
    for step in range(data.index.shape[1]):
        active = data.active(step)
        at = [p[:active] for p in weights]
        errors, outs = _passed(at, network, data, step, active)
        if plain:
            for i, (error, out) in enumerate(zip(errors, outs, strict=True)):
                at[2 * i].baddbmm_(error.mT, out, alpha=-descent.lr)
                at[2 * i + 1].add_(error.sum(1), alpha=-descent.lr)
            continue
        gradients = [
            part for error, out in zip(errors, outs, strict=True) for part in (error.mT.bmm(out), error.sum(1))
        ]
        if noise is not None:
            noise.add(gradients, active)
        directions, memory = descent.direction(gradients, at, start, memory.first(active))
        moves = _times(directions, [one[step] for one in lrs[:active]])
        torch._foreach_sub_(at, moves)
    if one_step and not clipped:  # the product itself: a difference would lose digits
        moved = list(torch._foreach_neg(moves))
    else:
        moved = [end.sub_(begun) for end, begun in zip(weights, start, strict=True)]
    names = [name for name, _ in network.named_parameters()]
    parts = [tensor.cpu().unbind() for tensor in moved]
    return [dict(zip(names, each, strict=True)) for each in zip(*parts, strict=True)]


def _times(directions: list[Tensor], lrs: Sequence[float]) -> list[Tensor]:
    """Each client's directions times its learning rate; the rates differ where a schedule goes over unequal steps."""
    if len(set(lrs)) <= 1:
        return list(torch._foreach_mul(directions, lrs[0] if lrs else 0.0))
    each = torch.tensor(lrs, device=directions[0].device)
    return [one * each.view(-1, *[1] * (one.ndim - 1)) for one in directions]


@dataclass(frozen=True)
class _Data:
    """The records of all clients of a chunk, and their use by each step."""

    jobs: Sequence[Job]
    inputs: Tensor
    """Encoded records of all clients, float32 (records, width)."""
    targets: Tensor
    """Targets: one-hot classes times their weights, float32 (records, classes), or standardized numbers (records,)."""
    weighted: bool
    """Whether classes have weights."""
    index: Tensor
    """Rows of `inputs` that each step uses, int64 (clients, steps, batch); arbitrary beyond a batch's end."""
    counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    """Number of records in each batch (clients, steps)."""
    clips: Tensor | None
    """Norm to which each client's record gradients are clipped, float32 (clients,); None without clipping."""

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
        class_weights = jobs[0].training.weights()
        if class_weights is not None and targets.ndim == 2:
            targets *= class_weights
        clips = [job.clipping.clip for job in jobs if job.clipping is not None]
        return cls(
            jobs,
            torch.cat([job.inputs for job in jobs]).to(device),
            targets.to(device),
            class_weights is not None and targets.ndim == 2,
            torch.from_numpy(index).to(device),
            counts,
            torch.tensor(clips, device=device) if clips else None,
        )

    def active(self, step: int) -> int:
        """Number of clients that train at this step: jobs are sorted by steps, so that they are rows [0, active)."""
        return sum(len(job.batches) > step for job in self.jobs)

    def masks(self, step: int, active: int, width: int) -> Tensor | None:
        """Dropout masks of a hidden layer's units, (active clients, batch, width); None without dropout."""
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
    """Forward and backward pass of a step: each layer's errors (clients, batch, units) and inputs.

    Their products are the gradient of each client's mean loss over its batch, or the sum of its clipped gradients.
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
    error = torch.softmax(z, 2) if targets.ndim == 3 else 2 * (z - targets.unsqueeze(2))
    if targets.ndim == 3:
        error = (error.mul_(targets.sum(2, keepdim=True)) if data.weighted else error).sub_(targets)
    ragged = bool((counts != rows.shape[1]).any())
    if data.clips is None:
        shares = torch.from_numpy((np.arange(rows.shape[1]) < counts[:, None]) / counts[:, None]) if ragged else None
        error = (
            error.mul_(shares.float().to(error.device).unsqueeze(2))
            if shares is not None
            else error.div_(rows.shape[1])
        )
    errors = [error]
    for i in range(layers - 1, 0, -1):
        z, out, mask = passed[i - 1]
        error = torch.bmm(error, weights[2 * i])
        error = BACK[type(network[2 * i - 1])](error if mask is None else error.mul_(mask), z, out)
        errors.append(error)
    errors.reverse()
    if data.clips is not None:
        present = torch.from_numpy(np.arange(rows.shape[1]) < counts[:, None]).to(error.device)
        guard = any(job.clipping.guard for job in data.jobs if job.clipping is not None)
        return _clipped(errors, outs, data.clips[:active], present, guard)
    return errors, outs


def _clipped(
    errors: list[Tensor], outs: list[Tensor], clips: Tensor, present: Tensor, guard: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Scale each record's errors so that its gradient's norm is at most `clips`; returns the layers' errors and inputs.

    A linear layer's gradient of one record is an outer product, of length |error| * |(input, 1)|: Goodfellow 2015
    (Efficient per-example gradient computations). A record that is not `present` is dropped, and, with
    `guard`, one whose gradient is not finite.
    """
    squares = torch.zeros_like(present, dtype=torch.float32)
    for error, out in zip(errors, outs, strict=True):
        squares += error.square().sum(2) * (out.square().sum(2) + 1)
    factors = (clips.unsqueeze(1) / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    usable = (present & squares.isfinite() if guard else present).unsqueeze(2)
    errors = [torch.where(usable, error * factors.unsqueeze(2), 0.0) for error in errors]
    return errors, [torch.where(usable, out, 0.0) for out in outs] if guard else outs  # 0 times infinity is NaN


@dataclass(frozen=True)
class _Noise:
    """Noise on sums of clipped gradients, drawn in Opacus's order: by client, step and parameter."""

    generators: Sequence[torch.Generator]
    """Generator of each client."""
    spreads: Sequence[float]
    """Standard deviation of each client's noise."""
    sizes: Tensor
    """Number that each client's noisy sums are divided by, float32 (clients,)."""
    shapes: Sequence[torch.Size]
    """Shape of each parameter."""

    @classmethod
    def of(cls, jobs: Sequence[Job], parameters: Sequence[Tensor]) -> Self:
        return cls(
            [torch_stream(job.rng) for job in jobs],
            [job.clipping.noise_multiplier * job.clipping.clip for job in jobs if job.clipping is not None],
            torch.tensor([job.clipping.divisor for job in jobs if job.clipping is not None]),
            [p.shape for p in parameters],
        )

    def add(self, gradients: list[Tensor], active: int) -> None:
        """Add noise to the active clients' gradients, and divide them by the expected batch size; in place."""
        drawn = [torch.zeros(active, *shape) for shape in self.shapes]
        each = list(zip(*(tensor.unbind() for tensor in drawn), strict=True))
        for generator, spread, parts in zip(self.generators, self.spreads, each, strict=False):
            if spread:
                for part in parts:
                    part.normal_(0.0, spread, generator=generator)
        for gradient, noise in zip(gradients, drawn, strict=True):
            sizes = self.sizes[:active].view(-1, *[1] * (gradient.ndim - 1)).to(gradient.device)
            gradient.add_(noise.to(gradient.device)).div_(sizes)
