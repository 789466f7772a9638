"""The typed columns of a table and the statistics that are published of each: numbers, categories, images."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

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


def _densest(numbers: NDArray[np.float64], radius: float) -> float:
    """Center of the window of half-width `radius` that holds most of the numbers."""
    ordered = np.sort(numbers)
    held = np.searchsorted(ordered, ordered + 2 * radius, side="right") - np.arange(len(ordered))
    start = int(np.argmax(held))
    return float((ordered[start] + ordered[start + held[start] - 1]) / 2)
