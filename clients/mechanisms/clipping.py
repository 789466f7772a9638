"""Cutting an update to a norm, and adding noise to it."""

import math

import torch

from fedinv.federation.training import Update


def clipped(update: Update, norm: float) -> Update:
    """Cut an update to a norm over all parameters (McMahan et al. 2018, equation 2).

    One that is not finite becomes zero, as scaling would let it through.
    """
    length = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in update.values()))
    if not math.isfinite(length):
        return {name: torch.zeros_like(tensor) for name, tensor in update.items()}
    scale = min(1.0, norm / length) if length > 0 else 1.0
    return {name: tensor * scale for name, tensor in update.items()}


def noised(update: Update, std: float, generator: torch.Generator) -> Update:
    """The update with Gaussian noise of a standard deviation added to every entry."""
    return {name: tensor + std * torch.randn(tensor.shape, generator=generator) for name, tensor in update.items()}
