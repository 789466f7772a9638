"""The typed columns of a table, and the one pair of functions that turns records into network inputs and back.

A schema is a published data dictionary: names, types, ranges and summary statistics of the population, never a record.
It is therefore the one thing about the data that the server may know.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from fedinv.loss import Loss

Columns = Mapping[str, NDArray[Any]]
"""Records column by column: floats (n,) for a continuous column, str (n,) for a categorical one, floats (n, pixels)
for images."""


class Continuous(BaseModel):
    """A number, fed to the network standardized: (value - mean) / std."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["continuous"] = "continuous"
    name: str
    mean: float
    std: float = Field(gt=0)
    low: float
    high: float
    mode: float
    """Center of the densest region, in the column's own unit: the best constant guess."""
    integer: bool = False
    unit: str = ""
    sensitive: bool = False

    @property
    def width(self) -> int:
        """Network inputs taken: one."""
        return 1

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update, encoded."""
        return ((self.mode - self.mean) / self.std,)

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(n,) numbers to (n, 1) standardized inputs."""
        return ((np.asarray(values, np.float64) - self.mean) / self.std)[:, None]

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """(n, 1) inputs to (n,) numbers, clamped to the range and rounded where the column holds integers."""
        numbers = np.nan_to_num(inputs[:, 0], posinf=1e30, neginf=-1e30)
        values = np.clip(numbers * self.std + self.mean, self.low, self.high)
        return np.round(values) if self.integer else values


class Categorical(BaseModel):
    """One of several values, fed to the network one-hot."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["categorical"] = "categorical"
    name: str
    values: tuple[str, ...] = Field(min_length=1)
    frequencies: tuple[float, ...]
    """Share of each value in the population."""
    sensitive: bool = False

    @model_validator(mode="after")
    def _one_frequency_a_value(self) -> "Categorical":
        if len(self.frequencies) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.frequencies)} frequencies")
        return self

    @property
    def width(self) -> int:
        """Network inputs taken: one a value."""
        return len(self.values)

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update, encoded: the commonest value."""
        top = int(np.argmax(self.frequencies))
        return tuple(float(i == top) for i in range(self.width))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(n,) values to (n, k) one-hot rows. Raises ValueError for a value that the column does not list."""
        index = {value: i for i, value in enumerate(self.values)}
        unknown = sorted({str(v) for v in values} - index.keys())
        if unknown:
            raise ValueError(f"column {self.name!r}: unknown value {unknown[0]!r}, expected one of {list(self.values)}")
        rows: NDArray[np.float64] = np.eye(self.width)[[index[str(v)] for v in values]]
        return rows

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """(n, k) scores to (n,) values: the largest wins."""
        chosen: NDArray[Any] = np.asarray(self.values, dtype=object)[np.argmax(np.nan_to_num(inputs), axis=1)]
        return chosen


class Image(BaseModel):
    """A picture, all of a record: each pixel is fed to the network standardized, channel by channel, row by row."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["image"] = "image"
    name: str
    channels: int = Field(gt=0)
    down: int = Field(gt=0)
    """Pixels from top to bottom."""
    across: int = Field(gt=0)
    """Pixels from left to right."""
    mean: float
    """Of the population's pixels."""
    std: float = Field(gt=0)
    low: float
    high: float
    """Black and white."""
    sensitive: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return self.channels, self.down, self.across

    @property
    def width(self) -> int:
        """Network inputs taken: one a pixel and channel."""
        return self.channels * self.down * self.across

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess from what is published, encoded: the mean pixel everywhere."""
        return (0.0,) * self.width

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """(n, pixels) values to standardized inputs of the same shape."""
        return (np.asarray(values, np.float64) - self.mean) / self.std

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """(n, pixels) inputs to values within [low, high]."""
        numbers = np.nan_to_num(inputs, posinf=1e30, neginf=-1e30)
        return np.clip(numbers * self.std + self.mean, self.low, self.high)


Column = Annotated[Continuous | Categorical | Image, Field(discriminator="kind")]


class Schema(BaseModel):
    """The columns of a record in the order in which the network reads them, and what it learns from them."""

    model_config = ConfigDict(frozen=True)

    columns: tuple[Column, ...] = Field(min_length=1)
    label: str
    classes: tuple[str, ...] = ()
    """At least two; none where the label is a number."""
    target: Continuous | None = None
    """The label's statistics where it is a number, learned standardized; None where it is a class."""

    @model_validator(mode="after")
    def _classes_or_a_number(self) -> "Schema":
        if (self.target is None and len(self.classes) < 2) or (self.target is not None and self.classes):
            raise ValueError("a label has two classes or more, or is a number and has none")
        return self

    @model_validator(mode="after")
    def _an_image_is_all(self) -> "Schema":
        if len(self.columns) > 1 and any(isinstance(column, Image) for column in self.columns):
            raise ValueError("an image is all of a record: no other column may stand beside it")
        return self

    @property
    def image(self) -> Image | None:
        """The image that a record is, None for a table."""
        first = self.columns[0]
        return first if isinstance(first, Image) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one record: (width,) for a table, (channels, height, width) for an image."""
        return (self.width,) if self.image is None else self.image.shape

    @property
    def outputs(self) -> int:
        """Number of network outputs: one a class, one for a number."""
        return len(self.classes) or 1

    @property
    def loss(self) -> Loss:
        """What a network of these records is trained by."""
        return "cross-entropy" if self.target is None else "squared-error"

    @property
    def fields(self) -> int:
        """What of a record is judged by itself: columns, or an image's pixels."""
        return len(self.columns) if self.image is None else self.width

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return sum(column.width for column in self.columns)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each column lies among the inputs."""
        ends = np.cumsum([column.width for column in self.columns]).tolist()
        return tuple(slice(end - column.width, end) for end, column in zip(ends, self.columns, strict=True))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
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
        """Turn a tensor (n, width) of any scores into valid records: the inverse of `encode` on its image."""
        table = inputs.detach().double().cpu().numpy()
        return {c.name: c.decode(table[:, s]) for c, s in zip(self.columns, self.slices, strict=True)}

    def guess(self, count: int) -> Tensor:
        """The best constant guess of a record without any update, `count` times: float32 (count, width)."""
        row = [value for column in self.columns for value in column.guess]
        return torch.tensor(row, dtype=torch.float32).repeat(count, 1)

    def draw(self, count: int, rng: np.random.Generator) -> Tensor:
        """Independent draws from the published marginals: float32 (count, width)."""
        parts = [
            np.eye(c.width)[rng.choice(c.width, count, p=np.asarray(c.frequencies) / sum(c.frequencies))]
            if isinstance(c, Categorical)
            else np.clip(_normal(c, count, rng), (c.low - c.mean) / c.std, (c.high - c.mean) / c.std)
            for c in self.columns
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1)).float()


def fit_continuous(
    name: str, values: NDArray[Any], *, integer: bool = False, unit: str = "", sensitive: bool = False
) -> Continuous:
    """Publish the statistics of a column of numbers (n,). A constant column gets a standard deviation of 1."""
    numbers = np.asarray(values, np.float64)
    std = float(numbers.std()) or 1.0
    return Continuous(
        name=name,
        mean=float(numbers.mean()),
        std=std,
        low=float(numbers.min()),
        high=float(numbers.max()),
        mode=_densest(numbers, 0.319 * std),
        integer=integer,
        unit=unit,
        sensitive=sensitive,
    )


def fit_categorical(
    name: str, values: NDArray[Any], *, order: Sequence[str] | None = None, sensitive: bool = False
) -> Categorical:
    """Publish the values of a column (n,) of strings, in the order given or sorted, and how often each occurs."""
    found, counts = np.unique(np.asarray(values, dtype=str), return_counts=True)
    share = dict(zip(found.tolist(), (counts / counts.sum()).tolist(), strict=True))
    kept = tuple(order) if order is not None else tuple(share)
    return Categorical(name=name, values=kept, frequencies=tuple(share.get(v, 0.0) for v in kept), sensitive=sensitive)


def _normal(column: Continuous | Image, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Standard normal numbers (count, width); an image's are pink noise, alike in all channels, as pictures are smooth.

    Pink: sums of noise on grids from one patch to all pixels, each of the same variance (Field 1987: 1/f spectra).
    """
    if isinstance(column, Continuous):
        return rng.standard_normal((count, 1))
    fields, patch = [], 1
    while patch < 2 * max(column.down, column.across):
        down, across = -(-column.down // patch), -(-column.across // patch)
        grid = rng.standard_normal((count, 1, down, across)).repeat(patch, 2).repeat(patch, 3)
        fields.append(grid[:, :, : column.down, : column.across])
        patch *= 2
    pink = np.sum(fields, 0) / len(fields) ** 0.5
    return np.asarray(pink.repeat(column.channels, 1).reshape(count, column.width))


def _densest(numbers: NDArray[np.float64], radius: float) -> float:
    """Center of the window of half-width `radius` that holds most of the numbers."""
    ordered = np.sort(numbers)
    held = np.searchsorted(ordered, ordered + 2 * radius, side="right") - np.arange(len(ordered))
    start = int(np.argmax(held))
    return float((ordered[start] + ordered[start + held[start] - 1]) / 2)
