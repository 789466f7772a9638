"""Finds the labels with which several records together explain an update best."""

import numpy as np
import torch
from torch import Tensor, nn

from .backward import pass_through

MOST = 2048
"""Largest number of records times classes for which labels are solved."""


def attribute(network: nn.Sequential, records: Tensor, updates: tuple[Tensor, ...]) -> Tensor | None:
    """Labels int64 (k,) of records (k, d), float64; None where there are more than MOST records times classes.

    The updates (outputs, inputs + 1) of the network's linear layers are fitted by the records' cross-entropy gradients
    with every label, each with a weight of at least zero (Lawson and Hanson 1974); a record's label is the one with the
    largest weight. Gradients' inner products need no gradient: <s [h, 1]^T, t [g, 1]^T> = (s t) (h g + 1).
    """
    from scipy.optimize import nnls

    passed = pass_through(network, records)
    chances = passed.logits.softmax(1)
    k, classes = chances.shape
    if k * classes > MOST:
        return None
    gram, toward = chances.new_zeros(k * classes, k * classes), chances.new_zeros(k * classes)
    residual = chances[:, None] - torch.eye(classes, dtype=chances.dtype)
    for inputs, jacobian, update in zip(passed.inputs, passed.jacobians, updates, strict=True):
        ahead = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
        slopes = (residual @ jacobian).flatten(0, 1)
        gram += (slopes @ slopes.T) * (ahead @ ahead.T).repeat_interleave(classes, 0).repeat_interleave(classes, 1)
        toward -= (slopes * (ahead @ update.T).repeat_interleave(classes, 0)).sum(1)
    values, vectors = (one.numpy() for one in torch.linalg.eigh(gram))  # its threads are those that were set
    root = np.sqrt(values.clip(1e-12 * values[-1]))
    weights = nnls(root[:, None] * vectors.T, (vectors.T @ toward.numpy()) / root, maxiter=30 * k * classes)[0]
    return torch.from_numpy(weights.reshape(k, classes).argmax(1))
