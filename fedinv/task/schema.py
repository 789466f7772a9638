"""The typed columns of a table, and the one pair of functions that turns records into network inputs and back.

A schema is a published data dictionary: names, types, ranges and summary statistics of the population, never a record.
It is therefore the one thing about the data that the server may know.
"""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from fedinv.task.columns import Categorical, Column, Columns, Continuous, Image, Tokens
from fedinv.task.loss import Loss
from fedinv.task.marginals import Marginals, marginals


class Schema(BaseModel):
    """The columns of a record in the order in which the network reads them, and what it learns from them."""

    model_config = ConfigDict(frozen=True)

    columns: tuple[Column, ...] = Field(min_length=1)
    """Columns of a record, without the label, in the order of the network's inputs."""
    label: str
    """Name of the column that is predicted."""
    classes: tuple[str, ...] = ()
    """Names of the label's classes, two or more, in the order of the network's outputs; empty for a numeric label."""
    target: Continuous | None = None
    """Statistics of a numeric label, by which it is standardized for training; None where the label is a class."""

    @model_validator(mode="after")
    def _classes_or_a_number(self) -> "Schema":
        if (self.target is None and len(self.classes) < 2) or (self.target is not None and self.classes):
            raise ValueError("a label has two classes or more, or is a number and has none")
        return self

    @model_validator(mode="after")
    def _an_image_is_all(self) -> "Schema":
        if len(self.columns) > 1 and any(isinstance(column, Image | Tokens) for column in self.columns):
            raise ValueError("an image or a text is all of a record: no other column may stand beside it")
        return self

    @property
    def image(self) -> Image | None:
        """The image column of a data set of images; None for a table."""
        first = self.columns[0]
        return first if isinstance(first, Image) else None

    @property
    def tokens(self) -> Tokens | None:
        """The text column of a data set of texts; None for others."""
        first = self.columns[0]
        return first if isinstance(first, Tokens) else None

    @property
    def table(self) -> bool:
        """True: records are rows of a table, whose fields are its columns; False: each is one image or one text."""
        return not isinstance(self.columns[0], Image | Tokens)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record: that of an image or a text where it is one, (width,) for a row of a table."""
        whole = self.image or self.tokens
        return (self.width,) if whole is None else whole.shape

    @property
    def outputs(self) -> int:
        """Number of network outputs: one per class, or one for a numeric label."""
        return len(self.classes) or 1

    @property
    def loss(self) -> Loss:
        """Loss by which the network is trained: cross-entropy for classes, squared error for a numeric label."""
        return "cross-entropy" if self.target is None else "squared-error"

    @property
    def fields(self) -> int:
        """Number of fields of a record that are judged one by one: columns, values of pixels, positions of a text."""
        return len(self.columns) if self.table else self.width

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return sum(column.width for column in self.columns)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Slice of the network inputs that each column occupies."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return tuple(slice(end - column.width, end) for end, column in zip(ends, self.columns, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def encode(self, records: Columns) -> Tensor:
        """Turn records into a float32 tensor (n, width). Raises ValueError for an unknown category."""
        parts = [column.encode(records[column.name]) for column in self.columns]
        return torch.from_numpy(np.concatenate(parts, axis=1)).float()

    def encode_labels(self, labels: NDArray[Any]) -> Tensor:
        """Labels (n,) as the loss takes them: int64 indices of classes, or numbers standardized, float32."""
        if self.target is None:
            return torch.from_numpy(np.asarray(labels, np.int64))
        return torch.from_numpy(self.target.encode(labels)[:, 0]).float()

    def decode(self, inputs: Tensor) -> dict[str, NDArray[Any]]:
        """Turn any scores (n, width) into valid records, by column name; undoes `encode` up to float32's rounding.

        No scores, of whatever width, are no records: what an attack claims without a schema has none.
        """
        table = inputs.detach().double().cpu().numpy() if len(inputs) else np.zeros((0, self.width))
        return {c.name: c.decode(table[:, s]) for c, s in zip(self.columns, self.slices, strict=True)}

    def guess(self, count: int) -> Tensor:
        """The best constant guess of a record from the schema alone, `count` times, encoded: float32 (count, width)."""
        row = [value for column in self.columns for value in column.guess]
        return torch.tensor(row, dtype=torch.float32).repeat(count, 1)

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Draw records column by column from the published marginals, encoded: float32 (count, width)."""
        first = self.columns[0]
        if isinstance(first, Tokens):
            return torch.from_numpy(first.draw(count, rng)).float()
        if isinstance(first, Image):
            low, high = ((end - first.mean) / first.std for end in (first.low, first.high))
            return torch.from_numpy(np.clip(_pink(first, count, rng), low, high)).float()
        return torch.from_numpy(self._marginals.draw(count, rng))

    @cached_property
    def _marginals(self) -> Marginals:
        return marginals([one for one in self.columns if isinstance(one, Categorical | Continuous)])


def _pink(column: Image, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Pink noise (count, width) of variance 1, equal in all channels, as pictures are smooth.

    Pink: sums of noise on grids from one patch to all pixels, each of the same variance (Field 1987: 1/f spectra).
    """
    fields, patch = [], 1
    while patch < 2 * max(column.down, column.across):
        down, across = -(-column.down // patch), -(-column.across // patch)
        grid = rng.standard_normal((count, 1, down, across)).repeat(patch, 2).repeat(patch, 3)
        fields.append(grid[:, :, : column.down, : column.across])
        patch *= 2
    pink = np.sum(fields, 0) / len(fields) ** 0.5
    return np.asarray(pink.repeat(column.channels, 1).reshape(count, column.width))
