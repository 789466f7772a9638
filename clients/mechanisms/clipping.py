"""Clips an update to a norm, and adds noise to it."""

import math

import torch

from fedinv.federation.training import Update


def clipped(update: Update, norm: float) -> Update:
    """Clip an update to a norm over all parameters (McMahan et al. 2018, equation 2).

    An update that is not finite becomes zero, because scaling does not bound it.
    """
    length = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in update.values()))
    if not math.isfinite(length):
        return {name: torch.zeros_like(tensor) for name, tensor in update.items()}
    scale = min(1.0, norm / length) if length > 0 else 1.0
    return {name: tensor * scale for name, tensor in update.items()}


def noised(update: Update, std: float, generator: torch.Generator) -> Update:
    """Add Gaussian noise of standard deviation `std` to every entry of the update."""
    return {name: tensor + std * torch.randn(tensor.shape, generator=generator) for name, tensor in update.items()}
