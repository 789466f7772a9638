"""Real images (scikit-learn): 1,797 handwritten digits of 8 x 8."""

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import interpolate

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.errors import RequestError
from fedinv.federation.streams import stream
from fedinv.task.columns import Image
from fedinv.task.schema import Schema


class Digits(Dataset):
    """Digits written by 43 people, with the label `digit` (Alpaydin and Kaynak 1998, UCI, their test set).

    Ink goes from 0 to 1. Larger sizes are the same pictures, smoothly enlarged: no detail is added.
    """

    people = "digit images"
    images = True

    source: Literal["digits"]
    records: int | None = Field(default=None, ge=20)
    """Images to use, drawn at random; all 1,797 when it is not given."""
    size: Literal[8, 16, 32] = 8
    """Pixels down and across."""
    channels: Literal[1, 3] = 1
    """1: gray; 3: gray three times, for models of color images."""

    def load(self, seed: int) -> Table:
        """Return the images in a random order. Raises RequestError when more are asked for than there are."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        total = len(bunch.target)
        if self.records is not None and self.records > total:
            raise RequestError(f"data.records: {self.records} is more than the {total} images there are")
        rows = stream(seed, "digits").permutation(total)[: self.records]
        ink = torch.from_numpy(np.asarray(bunch.images[rows], np.float64) / 16)[:, None]
        if self.size > 8:
            ink = interpolate(ink, size=(self.size, self.size), mode="bilinear", align_corners=False)
        pixels = ink.expand(-1, self.channels, -1, -1).flatten(1).numpy()
        image = Image(
            name="image",
            channels=self.channels,
            down=self.size,
            across=self.size,
            mean=float(pixels.mean()),
            std=float(pixels.std()),
            low=0.0,
            high=1.0,
        )
        schema = Schema(columns=(image,), label="digit", classes=tuple(str(digit) for digit in range(10)))
        return Table(schema=schema, columns={"image": pixels}, labels=np.asarray(bunch.target[rows], np.int64))
