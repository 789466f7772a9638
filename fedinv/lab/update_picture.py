"""What the server saw, as a picture: the update of the first layer, an entry a square."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.attack import Observation

ROWS, COLUMNS = 64, 192
"""Most units and inputs that the picture shows; of more, the first ones."""
GROWS = (176, 88, 0), (64, 132, 214)
"""Colors, red, green and blue from 0 to 255, of entries above 0 and below 0; the larger, the more opaque."""


@dataclass(frozen=True)
class UpdatePicture:
    """One update as the server received it."""

    png: str
    """Picture of the first layer's update, PNG, base64; transparent where an entry is 0. Empty without such a layer."""
    whose: str
    """Words for the clients that the update covers."""
    numbers: int
    """Numbers in the update."""
    zeros: float
    """Share of them that are exactly 0."""
    norm: float
    """Euclidean length over all parameters, in units of weights."""
    records: int
    """Examples that it is said to cover, sent in the clear."""
    shown: str
    """Words for what the picture shows of it."""


def update_picture(seen: Observation) -> UpdatePicture:
    """The last update of an observation, with the picture of its first layer."""
    last = seen.last
    flat = torch.cat([tensor.flatten().double() for tensor in last.received.values()])
    first = next((tensor for tensor in last.received.values() if tensor.ndim >= 2), None)
    one = len(seen.clients) == 1
    part = None if first is None else first.flatten(1)[:ROWS, :COLUMNS]
    return UpdatePicture(
        png="" if part is None else base64.b64encode(_png(part)).decode(),
        whose=f"client {seen.clients[0]}" if one else f"the sum of {len(seen.clients)} clients",
        numbers=len(flat),
        zeros=float((flat == 0).double().mean()),
        norm=float(flat.norm()),
        records=last.records,
        shown="" if part is None else f"the first {len(part)} units by {part.shape[1]} inputs of the first layer",
    )


def _png(entries: Tensor) -> bytes:
    """Entries (units, inputs) as colors whose opacity grows with the root of their size, PNG."""
    from matplotlib.image import imsave

    values = entries.double().nan_to_num(0.0, 0.0, 0.0).numpy()
    largest = float(np.quantile(np.abs(values), 0.99)) or float(np.abs(values).max()) or 1.0
    share = np.sqrt(np.clip(np.abs(values) / largest, 0, 1))
    pixels: NDArray[np.uint8] = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, *(np.array(color, np.uint8) for color in GROWS))
    pixels[..., 3] = (255 * share).astype(np.uint8)
    out = io.BytesIO()
    imsave(out, pixels.repeat(4, 0).repeat(4, 1), format="png")
    return out.getvalue()
