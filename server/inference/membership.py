"""Scores of membership: how unlikely the model, or an update, is had a person not been trained on."""

import math

import torch
from torch import Tensor, nn

from fedinv.attack import Sample
from fedinv.task.loss import loss

from .whitening import Noise, gradients


def by_loss(network: nn.Module, people: Sample) -> Tensor:
    """(people,): minus the loss under the trained model (Yeom et al. 2018, section 3)."""
    with torch.no_grad():
        return -loss(network(people.records), people.labels, reduction="none")


def by_likelihood(target: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """(people,): log likelihood ratio of the target's confidences (people,) among those of the shadows (s, people).

    `inside` (s, people) marks whom each shadow was trained on. A Gaussian for either case and each person, with a
    standard deviation shared over people (Carlini et al. 2022, algorithm 1 and section VI-C).
    """
    means, spreads = [], []
    for mask in (inside, ~inside):
        count = mask.sum(0).clamp_min(1)
        mean = (shadows * mask).sum(0) / count
        means.append(mean)
        off = ((shadows - mean).square() * mask).sum() / max(1, int(mask.sum()) - shadows.shape[1])
        spreads.append(off.sqrt().clamp_min(1e-6))
    within, without = (-((target - m) / s).square() / 2 - s.log() for m, s in zip(means, spreads, strict=True))
    return within - without


def by_gradient(network: nn.Sequential, people: Sample, others: Sample, seen: Tensor, n: int) -> Tensor:
    """(people,): log likelihood ratio of the first layer's mean gradient (numbers,) with and without each person.

    The matched filter of the person's gradient under noise that varies as the gradients of `others` do: z^2 of a
    person who is in the batch is large, and its score falls below 0 where the update lacks it. A whitened form of the
    dot product of Li et al. 2022 (section 4).
    """
    apart = gradients(network, others)
    mean = apart.mean(0)
    rest = seen - mean
    noise = Noise.of(apart / math.sqrt(n), rest)
    own = (gradients(network, people) - mean) / n
    fit = noise.products(own, rest.expand_as(own))
    return fit - noise.products(own, own) / 2
