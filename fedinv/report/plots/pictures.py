"""True and reconstructed images side by side, where the records are images."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedinv.report.plots.canvas import embedded
from fedinv.report.plots.waveforms import overlaid
from fedinv.report.reading import Run
from fedinv.results.run import Pair
from fedinv.task.columns import Image

MOST = 8
"""Claimed images that the page shows at most."""
SIDE = 160
"""Width in pixels up to which small images are enlarged, each of their pixels to a square."""


@dataclass(frozen=True)
class Picture:
    """A claimed image beside the true one."""

    who: str
    """The record's row in the data, as "record 17"."""
    client: int
    """Number of the client that holds it, from 0."""
    round: int
    """Number of the attacked round, from 1."""
    true: str
    """The true image as PNG, base64."""
    claimed: str
    """The claimed image as PNG, base64."""
    psnr: float
    """Peak signal-to-noise ratio of the claim against the truth, dB."""
    ssim: float | None
    """Structural similarity of the claim to the truth, up to 1; None where the image is too small for it."""
    confidence: float | None
    """The attack's own probability that the record is right, 0 to 1."""
    recovered: bool
    """Whether every pixel is within the tolerance."""
    overlaid: str | None = None
    """A signal's true and claimed values as lines over each other, as the address of an SVG; None for an image."""


def pictures(run: Run) -> tuple[Picture, ...]:
    """Up to eight images that the worst attack claimed, spread evenly from the highest to the lowest PSNR."""
    image = run.schema.image
    if run.rows is None or image is None:
        return ()
    rows = sorted(run.rows.filter(run.rows["claimed"]).to_pylist(), key=lambda row: -row["psnr"])
    chosen = dict.fromkeys(np.linspace(0, len(rows) - 1, min(MOST, len(rows))).round().astype(int).tolist())
    return tuple(_picture(rows[position], image) for position in chosen)


def png(pixels: NDArray[Any], image: Image) -> bytes:
    """One image, pixels (pixels,) in the column's unit, as PNG: gray, or its first three channels as RGB."""
    return shown((pixels - image.low) / (image.high - image.low), image.shape)


def drawn(pair: Pair) -> tuple[str, str]:
    """The true and the claimed image of a pair, each as PNG, base64."""
    true, claimed = (
        base64.b64encode(shown(np.asarray(values, np.float64), pair.shape)).decode()
        for values in (pair.true, pair.claimed)
    )
    return true, claimed


def shown(fractions: NDArray[Any], shape: tuple[int, ...]) -> bytes:
    """One image of values from 0, black, to 1, as PNG; `shape` is (channels, down, across)."""
    pixels = np.clip(fractions, 0, 1).reshape(shape)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].repeat(3, 0)
    times = max(1, SIDE // max(shape[1:]))
    out = io.BytesIO()
    from matplotlib.image import imsave

    imsave(out, pixels.repeat(times, 1).repeat(times, 2).transpose(1, 2, 0), format="png")
    return out.getvalue()


def _picture(row: dict[str, Any], image: Image) -> Picture:
    pair = [np.asarray(row[f"{which}:{image.name}"], np.float64) for which in ("true", "claimed")]
    true, claimed = (base64.b64encode(png(one, image)).decode() for one in pair)
    lines = None if image.rate is None else embedded(overlaid(pair[0], pair[1], image))
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
        overlaid=lines,
    )
