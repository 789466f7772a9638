"""How like the truth a claimed image is: PSNR and SSIM."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.task.columns import Image

MOST = 100.0
"""Decibels at which PSNR is cut off: the error is then below 1e-5 of the range, about a float32's."""
SMALLEST = 6
"""Pixels across an image at which SSIM's window of 11 x 11 fits it, borders reflected."""


@dataclass(frozen=True)
class Quality:
    """Likeness of n pairs of images."""

    psnr: NDArray[np.float64]
    """(n,) peak signal-to-noise ratio in decibels of the pixels' range, at most MOST."""
    ssim: NDArray[np.float64]
    """(n,) structural similarity (Wang et al. 2004), -1 to 1; NaN for images below 6 x 6."""


def quality(claimed: NDArray[np.float64], true: NDArray[np.float64], image: Image) -> Quality:
    """Compare images (n, pixels) one by one, in the column's own unit."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    if not len(true):
        return Quality(np.zeros(0), np.zeros(0))
    span = image.high - image.low
    error = np.square((claimed - true) / span).mean(1)
    ours, theirs = (
        torch.from_numpy((x - image.low) / span).double().reshape(-1, *image.shape) for x in (claimed, true)
    )
    if min(image.down, image.across) < SMALLEST:
        return Quality(_decibels(error), np.full(len(true), np.nan))
    alike = structural_similarity_index_measure(ours, theirs, data_range=(0.0, 1.0), reduction="none")
    return Quality(_decibels(error), np.asarray(torch.as_tensor(alike).reshape(-1).numpy()))


def pair(claimed: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match claims (k, pixels) one to one to true images (n, pixels) by least squared error (Kuhn 1955).

    Returns the rows of either side, equally many.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    rows, columns = linear_sum_assignment(cdist(claimed, true, "sqeuclidean"))
    return rows, columns


def _decibels(error: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.minimum(-10 * np.log10(np.maximum(error, 1e-30)), MOST))
