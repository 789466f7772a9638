"""Utility of the trained model on held-out records: area under the ROC curve, or explained share of variance."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.results.run import Interval


def auc(
    network: nn.Module, inputs: Tensor, labels: Tensor, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, Interval] | None:
    """AUC with its 95 % bootstrap interval over records; the mean over one-against-rest AUCs for several classes.

    A network that returns non-finite scores gets 0.5, as it ranks nothing. Classes that are absent from the labels are
    left out. None where all labels are the same: then there is no pair of records to rank.
    """
    with torch.no_grad():
        scores = torch.softmax(network(inputs).double(), dim=1).numpy()
    truth = labels.numpy()
    classes = [1] if scores.shape[1] == 2 else list(range(scores.shape[1]))
    classes = [c for c in classes if 0 < (truth == c).sum() < len(truth)]
    if not classes:
        return None
    if not np.isfinite(scores).all():
        return 0.5, (0.5, 0.5)
    counts = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples).astype(float)
    weights = np.concatenate([np.ones((1, len(truth))), counts])
    values = _mean_over_classes(np.stack([_weighted_auc(scores[:, c], truth == c, weights) for c in classes]))
    return float(values[0]), _quantiles(values)


def r2(
    network: nn.Module, inputs: Tensor, targets: Tensor, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, Interval] | None:
    """Explained share of the targets' variance (R2), with its 95 % bootstrap interval over records.

    1 is perfect, 0 is as good as predicting the mean, and negative values are worse. Non-finite predictions get 0. None
    where all targets are equal: then there is no variance to explain.
    """
    with torch.no_grad():
        predicted = network(inputs).double()[:, 0].numpy()
    truth = targets.double().numpy()
    if len(np.unique(truth)) < 2:
        return None
    if not np.isfinite(predicted).all():
        return 0.0, (0.0, 0.0)
    counts = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples)
    weights = np.concatenate([np.ones((1, len(truth))), counts])
    total = weights.sum(1)
    spread = weights @ truth**2 - (weights @ truth) ** 2 / total
    wrong = weights @ (predicted - truth) ** 2
    values = 1 - np.divide(wrong, spread, out=np.full(len(total), np.nan), where=spread > 1e-12 * spread[0])
    return float(values[0]), _quantiles(values)


def _mean_over_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over classes (classes, r) of the AUCs that are known; NaN for a resample in which none is."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(0), known.sum(0)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean


def _quantiles(values: NDArray[np.float64]) -> Interval:
    """Interval (95 %) of the resamples, all but the first of (r,), in which the metric is known."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn if len(drawn) else values[:1], [0.025, 0.975])
    return float(low), float(high)


def _weighted_auc(
    score: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC by the Mann-Whitney statistic for each row of record weights (r, n); NaN where a class has no weight."""
    up, down = score[positive], score[~positive]
    wins = (up[:, None] > down[None, :]) + 0.5 * (up[:, None] == down[None, :])
    for_up, for_down = weights[:, positive], weights[:, ~positive]
    pairs = for_up.sum(1) * for_down.sum(1)
    total = np.einsum("ri,ij,rj->r", for_up, wins, for_down, optimize=True)
    value: NDArray[np.float64] = np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)
    return value
