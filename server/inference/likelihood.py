"""The likelihood of an update given the records: clipped gradients at known weights plus Gaussian noise of known size.

Balunovic, Dimitrov, Staab, Vechev 2022 (Bayesian framework for gradient leakage), equation 6 and section 4.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedinv.attack import Exchange, Knowledge, Sample
from fedinv.task.loss import loss
from fedinv.task.models import state
from fedinv.task.networks.perceptron import ACTIVATIONS

from ..inversion.distortion import Distortion
from ..inversion.evidence import unreadable
from ..inversion.local_training import decay, known_network, step_length

CHUNK = 2**24
"""Most numbers that the per-record gradients computed at once may hold."""

_PLAIN: tuple[type[nn.Module], ...] = (nn.Linear, *ACTIVATIONS.values())


@dataclass(frozen=True)
class Mechanism:
    """A single local step behind a known mechanism: update = clip(-lr / divisor * sum of clipped gradients) + noise."""

    network: nn.Sequential
    """The network with the weights that were sent."""
    update: Tensor
    """The update that was received, or the mean over several rounds, float32 (parameters,)."""
    std: float
    """Standard deviation of the noise on each coordinate of `update`; 0 where no noise is known."""
    lr: float
    """Length of the local step over that of the gradient."""
    record_clip: float
    """Norm to which each record's gradient was clipped; infinite where none was."""
    update_clip: float
    """Norm to which the whole update was clipped before the noise; infinite where it was not."""
    divisor: float | None
    """Number by which the sum of gradients was divided; None where it was the number of records."""

    def gradients(self, records: Sample) -> Tensor:
        """Each record's gradient, clipped to the known norm, float32 (n, parameters)."""
        weights = {k: p.detach() for k, p in self.network.named_parameters()}

        def of_one(of: dict[str, Tensor], one: Tensor, label: Tensor) -> Tensor:
            off: Tensor = loss(functional_call(self.network, of, (one[None],)), label[None])
            return off

        per_record = vmap(grad(of_one), in_dims=(None, 0, 0))
        each, dense = list[Tensor](), all(isinstance(layer, _PLAIN) for layer in self.network)
        for start in range(0, len(records), max(1, CHUNK // len(self.update))):
            at = slice(start, start + max(1, CHUNK // len(self.update)))
            if dense:
                each.append(_of_dense(self.network, records.records[at], records.labels[at]))
                continue
            found = per_record(weights, records.records[at], records.labels[at])
            each.append(torch.cat([found[k].flatten(1) for k in weights], 1))
        rows = torch.cat(each) if each else torch.zeros(0, len(self.update))
        if math.isinf(self.record_clip):
            return rows
        norms: Tensor = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return rows * (norms.reciprocal() * self.record_clip).clamp_max(1.0)

    def residual(self, sums: Tensor, count: int) -> Tensor:
        """Squared distance between the observed update and the one predicted from each candidate, float64 (n,).

        The candidates `sums` (n, parameters) are sums of `count` clipped gradients.
        """
        expected = sums * (-self.lr / (self.divisor or count))
        if not math.isinf(self.update_clip):
            norms = expected.norm(dim=1, keepdim=True).clamp_min(1e-12)
            expected = expected * (self.update_clip / norms).clamp_max(1.0)
        return (expected - self.update).double().square().sum(1)

    def log_likelihood(self, sums: Tensor, count: int, floor: float = 1e-6) -> Tensor:
        """Logarithm of the update's density for each of n candidate sums, up to a constant, float64 (n,).

        Where no noise is known its norm is assumed to be `floor` times the update's: the nearest candidate wins.
        """
        length = float(self.update.double().norm())
        std = max(self.std, floor * max(length, 1e-30) / math.sqrt(len(self.update)))
        return -self.residual(sums, count) / (2 * std**2)


def _of_dense(network: nn.Sequential, records: Tensor, labels: Tensor) -> Tensor:
    """Per-record gradients of a perceptron, float32 (n, parameters): outer products of signals and inputs by layer."""
    hidden, inputs, outputs = records, list[Tensor](), list[Tensor]()
    with torch.enable_grad():
        for layer in network:
            before, hidden = hidden, layer(hidden)
            if isinstance(layer, nn.Linear):
                inputs.append(before.detach())
                outputs.append(hidden)
        slopes = torch.autograd.grad(loss(hidden, labels, reduction="sum"), outputs)
    parts = [
        part for d, h in zip(slopes, inputs, strict=True) for part in ((d[:, :, None] * h[:, None, :]).flatten(1), d)
    ]
    return torch.cat(parts, 1)


def mechanism(exchanges: Sequence[Exchange], knows: Knowledge, distortion: Distortion) -> Mechanism:
    """The mechanism behind exchanges of the same weights and batch: their mean, whose noise is sqrt(R) times less.

    `distortion` is what defenses are known to have done to each of the R updates. Raises ValueError, in words, for what
    is withheld or cannot be one step of per-record gradients.
    """
    last = exchanges[-1]
    if knows.model is None or knows.schema is None:
        raise ValueError("the architecture or the schema is withheld")
    if knows.loss is None:
        raise ValueError("the loss is withheld")
    if knows.algorithm != "fedsgd":
        raise ValueError("several local steps: the likelihood is that of one step (FedSGD)")
    if any(name.rpartition(".")[2].startswith("running_") for name in last.sent):
        raise ValueError("a batch normalization mixes the records, which have no gradients of their own")
    reason = next((found for found in map(unreadable, exchanges) if found is not None), None)
    if reason is not None:
        raise ValueError(reason)
    network = known_network(knows.model, last.sent, knows.schema)
    names = [k for k, _ in network.named_parameters()]
    if set(names) != set(state(network)) or any(set(names) != set(e.received) for e in exchanges):
        raise ValueError("the update does not fit the network")
    length = step_length(knows, last.records)
    if length is None:
        raise ValueError("the learning rate is withheld")
    if knows.class_weights:
        raise ValueError("classes have weights in the loss, by which the likelihood does not clip")
    shrunk = decay(knows, last.records)
    flat = torch.stack(
        [torch.cat([(e.received[k] - shrunk * e.sent[k]).float().flatten() for k in names]) for e in exchanges]
    ).mean(0)
    return Mechanism(
        network=network,
        update=flat,
        std=distortion.noise / math.sqrt(len(exchanges)),
        lr=length,
        record_clip=distortion.record_clip,
        update_clip=distortion.update_clip,
        divisor=distortion.divisor or None,
    )


def same_batch_each_round(knows: Knowledge, records: int) -> bool:
    """Whether each round's batch is known to be all of the client's records, and so the same in every round.

    A FedSGD update reports the size of its batch: one smaller than the batch size holds all the client's records, a
    full one may be part of more.
    """
    return knows.algorithm == "fedsgd" and knows.batch_size is not None and knows.batch_size > records


def repeats(exchanges: Sequence[Exchange], knows: Knowledge) -> tuple[Exchange, ...]:
    """The exchanges with the same weights and batch as the last one, the last one among them."""
    last = exchanges[-1]
    if not same_batch_each_round(knows, last.records):
        return (last,)
    return tuple(e for e in exchanges if all(torch.equal(e.sent[k], last.sent[k]) for k in last.sent))
