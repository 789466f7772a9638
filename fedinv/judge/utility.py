"""What the trained model is good for on records that no client holds: area under the ROC curve, or share explained."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.results.run import Interval


def auc(
    network: nn.Module, inputs: Tensor, labels: Tensor, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, Interval]:
    """AUC with its 95 % bootstrap interval over records; the mean over one-against-rest for several classes.

    A network that returns non-finite scores tells nothing: 0.5. A class that is absent from the labels is passed over.
    """
    with torch.no_grad():
        scores = torch.softmax(network(inputs).double(), dim=1).numpy()
    if not np.isfinite(scores).all():
        return 0.5, (0.5, 0.5)
    truth = labels.numpy()
    classes = [1] if scores.shape[1] == 2 else list(range(scores.shape[1]))
    classes = [c for c in classes if 0 < (truth == c).sum() < len(truth)]
    if not classes:
        return 0.5, (0.0, 1.0)
    counts = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples).astype(float)
    weights = np.concatenate([np.ones((1, len(truth))), counts])
    values = np.nanmean([_weighted_auc(scores[:, c], truth == c, weights) for c in classes], axis=0)
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return float(values[0]), (float(low), float(high))


def r2(
    network: nn.Module, inputs: Tensor, targets: Tensor, rng: np.random.Generator, resamples: int = 1000
) -> tuple[float, Interval]:
    """Share of the targets' variance that is explained, with its 95 % bootstrap interval over records.

    1 is perfect, 0 what their mean does, and it is negative for worse. A network that returns predictions that are not
    finite tells nothing: 0, as do targets that are all the same.
    """
    with torch.no_grad():
        predicted = network(inputs).double()[:, 0].numpy()
    truth = targets.double().numpy()
    if not np.isfinite(predicted).all() or len(np.unique(truth)) < 2:
        return 0.0, (0.0, 0.0)
    counts = rng.multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=resamples)
    weights = np.concatenate([np.ones((1, len(truth))), counts])
    total = weights.sum(1)
    spread = weights @ truth**2 - (weights @ truth) ** 2 / total
    wrong = weights @ (predicted - truth) ** 2
    values = 1 - np.divide(wrong, spread, out=np.full(len(total), np.nan), where=spread > 1e-12 * spread[0])
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return float(values[0]), (float(low), float(high))


def _weighted_auc(
    score: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The Mann-Whitney statistic for each row of record weights (r, n); NaN where a class has no weight."""
    up, down = score[positive], score[~positive]
    wins = (up[:, None] > down[None, :]) + 0.5 * (up[:, None] == down[None, :])
    for_up, for_down = weights[:, positive], weights[:, ~positive]
    pairs = for_up.sum(1) * for_down.sum(1)
    total = np.einsum("ri,ij,rj->r", for_up, wins, for_down, optimize=True)
    value: NDArray[np.float64] = np.divide(total, pairs, out=np.full(len(total), np.nan), where=pairs > 0)
    return value
