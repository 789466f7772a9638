"""Membership scores: how much likelier the model, or an update, is if a person was in the training."""

import math

import torch
from torch import Tensor, nn

from fedinv.attack import Sample
from fedinv.task.loss import loss

from .whitening import Noise, gradients


def by_loss(network: nn.Module, people: Sample) -> Tensor:
    """Minus the loss of each person under the trained model, (people,) (Yeom et al. 2018, section 3)."""
    with torch.no_grad():
        return -loss(network(people.records), people.labels, reduction="none")


def by_likelihood(target: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
    """Log likelihood ratio (people,) of the target model's confidences (people,) given those of shadows (s, people).

    `inside` (s, people) marks the people that each shadow was trained on. A Gaussian for members and one for others,
    for each person, with a standard deviation shared by all people (Carlini et al. 2022, algorithm 1, section VI-C).
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
    """Log likelihood ratio (people,) of the first layer's mean gradient `seen` (parameters,) with and without a person.

    `seen` is the mean over n records. The matched filter of the person's gradient under noise with the covariance of
    the gradients of `others`; it is below 0 where the update lacks the person. A whitened form of the dot product of Li
    et al. 2022 (section 4).
    """
    apart = gradients(network, others)
    mean = apart.mean(0)
    rest = seen - mean
    noise = Noise.of(apart / math.sqrt(n), rest)
    own = (gradients(network, people) - mean) / n
    fit = noise.products(own, rest.expand_as(own))
    return fit - noise.products(own, own) / 2
