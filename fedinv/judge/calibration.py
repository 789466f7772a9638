"""Calibration of an attack: the confidence of its claims against how often they are right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedinv.judge.verdict import Verdict
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import Calibration, CalibrationBin

BINS = 10
"""Number of bins of equal width into which confidences are grouped."""


def confidences(verdicts: Sequence[Verdict]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the confidence of each claim (k,), and whether the record that it is matched with is recovered (k,).

    A claim that is matched with no true record is wrong; a confidence that is not a number counts as 0.
    """
    stated, right = [np.empty(0)], [np.empty(0, dtype=bool)]
    for verdict in verdicts:
        confidence, match = verdict.case.claim.confidence.double().cpu().numpy(), verdict.match
        hit = np.zeros(len(confidence), dtype=bool)
        hit[match.claim[match.claimed]] = verdict.recovered[match.claimed]
        stated.append(np.nan_to_num(confidence).clip(0, 1))
        right.append(hit)
    return np.concatenate(stated), np.concatenate(right)


def calibration(stated: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration | None:
    """Group claims (k,) by confidence into BINS bins, without empty ones; None without claims.

    The expected calibration error is Guo et al. 2017's (On calibration of modern neural networks, equation 5), the
    Brier score is the mean squared distance of confidence and truth (Brier 1950).
    """
    if not len(stated):
        return None
    step = np.clip((stated * BINS).astype(int), 0, BINS - 1)
    bins = []
    for i in range(BINS):
        here = step == i
        count, hits = int(here.sum()), int(right[here].sum())
        if count:
            bins.append(
                CalibrationBin(
                    low=i / BINS,
                    high=(i + 1) / BINS,
                    claimed_mean=float(stated[here].mean()),
                    right=hits / count,
                    count=count,
                    ci95=clopper_pearson(hits, count),
                )
            )
    return Calibration(
        bins=bins,
        expected_calibration_error=sum(one.count * abs(one.claimed_mean - one.right) for one in bins) / len(stated),
        brier=float(((stated - right) ** 2).mean()),
    )
