"""True and reconstructed images side by side, where the records are images."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.report.reading import Run
from fedinv.results.run import Pair
from fedinv.task.columns import Image

MOST = 8
SIDE = 160
"""Pixels across at which small images are drawn, each of their pixels a square."""


@dataclass(frozen=True)
class Picture:
    """A record that was claimed."""

    who: str
    client: int
    round: int
    true: str
    """PNG, base64."""
    claimed: str
    psnr: float
    ssim: float | None
    confidence: float | None
    recovered: bool


def pictures(run: Run) -> tuple[Picture, ...]:
    """Up to eight images that the worst attack claimed, spread evenly from the most to the least like the truth."""
    image = run.schema.image
    if run.rows is None or image is None:
        return ()
    rows = sorted(run.rows.filter(run.rows["claimed"]).to_pylist(), key=lambda row: -row["psnr"])
    chosen = dict.fromkeys(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int).tolist())
    return tuple(_picture(rows[position], image) for position in chosen)


def png(pixels: NDArray[Any], image: Image) -> bytes:
    """Draw one image (pixels,) of the column's own unit: gray, or its first three channels as red, green and blue."""
    return _png((pixels - image.low) / (image.high - image.low), image.shape)


def drawn(pair: Pair) -> tuple[str, str]:
    """A pair's true and claimed image as PNG, base64."""
    true, claimed = (
        base64.b64encode(_png(np.asarray(values, np.float64), pair.shape)).decode()
        for values in (pair.true, pair.claimed)
    )
    return true, claimed


def _png(fractions: NDArray[Any], shape: tuple[int, ...]) -> bytes:
    shown = np.clip(fractions, 0, 1).reshape(shape)
    shown = shown[:3] if len(shown) >= 3 else shown[:1].repeat(3, 0)
    times = max(1, SIDE // max(shape[1:]))
    out = io.BytesIO()
    from matplotlib.image import imsave

    imsave(out, shown.repeat(times, 1).repeat(times, 2).transpose(1, 2, 0), format="png")
    return out.getvalue()


def _picture(row: dict[str, Any], image: Image) -> Picture:
    true, claimed = (
        base64.b64encode(png(np.asarray(row[f"{which}:{image.name}"], np.float64), image)).decode()
        for which in ("true", "claimed")
    )
    return Picture(
        who=f"record {row['person']}",
        client=row["client"],
        round=row["round"],
        true=true,
        claimed=claimed,
        psnr=row["psnr"],
        ssim=row["ssim"],
        confidence=row["confidence"],
        recovered=row["recovered"],
    )
