"""The typed columns of a table (numbers, categories, images, texts) and the statistics that are published of each."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

Columns = Mapping[str, NDArray[Any]]
"""Records column by column: floats (n,) for a continuous column, str (n,) for a categorical one, floats (n, pixels)
for images, int64 ids (n, length) for texts."""

PADDING = 0
"""Id of the token that fills a text behind its end; no word of a text has it."""
FREQUENT = 20
"""Tokens of each position whose frequencies are published."""
FAR, NEAR = 10.0, 3.0
"""Interquartile ranges beyond the quartiles from which a number counts as an outlier, and to which it is moved."""


class Continuous(BaseModel):
    """A number, fed to the network standardized: (value - mean) / std."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["continuous"] = "continuous"
    name: str
    """Name of the column."""
    mean: float
    """Mean of the population's values, in the column's own unit."""
    std: float = Field(gt=0)
    """Standard deviation of the population's values, in the column's own unit."""
    low: float
    """Smallest value in the population; decoded values are clamped to it."""
    high: float
    """Largest value in the population; decoded values are clamped to it."""
    mode: float
    """Center of the densest region, in the column's own unit: the best constant guess."""
    integer: bool = False
    """True: decoded values are rounded to whole numbers."""
    unit: str = ""
    """Unit of the values, as reports print it."""
    sensitive: bool = False
    """True: disclosure of the column harms; attribute inference asks for the first such column by default."""

    @property
    def width(self) -> int:
        """Number of network inputs: one."""
        return 1

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update, `mode`, standardized."""
        return ((self.mode - self.mean) / self.std,)

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest value of the population, standardized."""
        return (self.low - self.mean) / self.std, (self.high - self.mean) / self.std

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Standardize numbers (n,) to inputs (n, 1)."""
        return ((np.asarray(values, np.float64) - self.mean) / self.std)[:, None]

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """Turn inputs (n, 1) back into numbers (n,), clamped to [low, high] and, for integer columns, rounded."""
        numbers = np.nan_to_num(inputs[:, 0], posinf=1e30, neginf=-1e30)
        values = np.clip(numbers * self.std + self.mean, self.low, self.high)
        return np.round(values) if self.integer else values


class Categorical(BaseModel):
    """One of several values, fed to the network one-hot."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["categorical"] = "categorical"
    name: str
    """Name of the column."""
    values: tuple[str, ...] = Field(min_length=1)
    """All values that a record may have, in the order of the one-hot inputs."""
    frequencies: tuple[float, ...]
    """Share of each value in the population, 0 to 1."""
    sensitive: bool = False
    """True: disclosure of the column harms; attribute inference asks for the first such column by default."""

    @model_validator(mode="after")
    def _one_frequency_a_value(self) -> "Categorical":
        if len(self.frequencies) != len(self.values):
            raise ValueError(f"{len(self.values)} values but {len(self.frequencies)} frequencies")
        return self

    @property
    def width(self) -> int:
        """Number of network inputs: one per value."""
        return len(self.values)

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update, the most frequent value, one-hot."""
        top = int(np.argmax(self.frequencies))
        return tuple(float(i == top) for i in range(self.width))

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Turn values (n,) into one-hot rows (n, k). Raises ValueError for a value that the column does not list."""
        index = {value: i for i, value in enumerate(self.values)}
        unknown = {str(v) for v in values} - index.keys()
        if unknown:
            raise ValueError(
                f"column {self.name!r}: {len(unknown)} unknown values, expected some of {self.width} others"
            )
        rows: NDArray[np.float64] = np.eye(self.width)[[index[str(v)] for v in values]]
        return rows

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """Turn scores (n, k) into values (n,): the value with the largest score."""
        chosen: NDArray[Any] = np.asarray(self.values, dtype=object)[np.argmax(np.nan_to_num(inputs), axis=1)]
        return chosen


class Image(BaseModel):
    """An image or a signal, the only column of its records; its values are standardized, read channel by channel.

    A signal is an image of one row: its leads are the channels, its samples the pixels of the row.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["image"] = "image"
    name: str
    """Name of the column."""
    channels: int = Field(gt=0)
    """Color channels: 1 for gray, 3 for color; of a signal its leads."""
    down: int = Field(gt=0)
    """Pixels from top to bottom; 1 of a signal."""
    across: int = Field(gt=0)
    """Pixels from left to right, or samples of a signal."""
    mean: float
    """Mean of the population's pixel values."""
    std: float = Field(gt=0)
    """Standard deviation of the population's pixel values."""
    low: float
    """Pixel value of black."""
    high: float
    """Pixel value of white."""
    sensitive: bool = True
    """True: disclosure of the images harms."""
    rate: float | None = Field(default=None, gt=0)
    """Samples a second of a signal, by which reports draw it as a line; None for an image."""
    unit: str = ""
    """Unit of a signal's values, as reports print it."""

    @model_validator(mode="after")
    def _a_signal_has_one_row(self) -> "Image":
        if self.rate is not None and self.down != 1:
            raise ValueError(f"a signal has one row of samples, not {self.down}")
        return self

    @property
    def called(self) -> Literal["images", "signals"]:
        """Word for the records."""
        return "images" if self.rate is None else "signals"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image: (channels, height, width)."""
        return self.channels, self.down, self.across

    @property
    def width(self) -> int:
        """Number of network inputs: one per pixel and channel."""
        return self.channels * self.down * self.across

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update, the mean pixel everywhere, standardized."""
        return (0.0,) * self.width

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Standardize pixel values (n, pixels) to inputs of that shape."""
        return (np.asarray(values, np.float64) - self.mean) / self.std

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """Turn inputs (n, pixels) back into pixel values, clamped to [low, high]."""
        numbers = np.nan_to_num(inputs, posinf=1e30, neginf=-1e30)
        return np.clip(numbers * self.std + self.mean, self.low, self.high)


class Tokens(BaseModel):
    """A text as a row of token ids, the only column of its records; the network looks each id up in an embedding."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["tokens"] = "tokens"
    name: str
    """Name of the column."""
    words: tuple[str, ...] = Field(min_length=2)
    """Word of each id, the public vocabulary; the first, id 0, is the padding behind a text's end."""
    frequent: tuple[tuple[int, ...], ...] = Field(min_length=1)
    """Most frequent ids at each position of a text, most frequent first, one or more for each position."""
    shares: tuple[tuple[float, ...], ...]
    """Share of the population's texts that have each of those ids at that position, 0 to 1."""
    sensitive: bool = True
    """True: disclosure of the texts harms."""

    @model_validator(mode="after")
    def _one_share_a_token(self) -> "Tokens":
        if [len(ids) for ids in self.frequent] != [len(shares) for shares in self.shares] or not all(self.frequent):
            raise ValueError("each position needs one frequent id or more, and as many shares")
        if not all(0 <= one < len(self.words) for ids in self.frequent for one in ids):
            raise ValueError(f"ids are from 0 to {len(self.words) - 1}, as the vocabulary has {len(self.words)} words")
        return self

    mean: ClassVar[float] = 0.0
    """Ids are not standardized."""
    std: ClassVar[float] = 1.0
    """Ids are not standardized."""
    low: ClassVar[float] = 0.0
    """Smallest id of a token."""

    @property
    def high(self) -> float:
        """Largest id of a token."""
        return len(self.words) - 1.0

    @property
    def length(self) -> int:
        """Number of positions of a text, padding included."""
        return len(self.frequent)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one text: (length, size of the vocabulary)."""
        return self.length, len(self.words)

    @property
    def width(self) -> int:
        """Number of network inputs: one id per position."""
        return self.length

    @property
    def guess(self) -> tuple[float, ...]:
        """The best constant guess without any update: the most frequent id at each position."""
        return tuple(float(ids[0]) for ids in self.frequent)

    def encode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Ids (n, length) as inputs of that shape. Raises ValueError for an id that the vocabulary does not have."""
        ids = np.asarray(values, np.float64)
        wrong = int(((ids < 0) | (ids >= len(self.words))).sum())
        if wrong:
            raise ValueError(f"column {self.name!r}: {wrong} ids are none of the {len(self.words)} of the vocabulary")
        return ids

    def decode(self, inputs: NDArray[np.float64]) -> NDArray[Any]:
        """Turn inputs (n, length) back into ids, int64: rounded, and clamped to those of the vocabulary."""
        return np.clip(np.nan_to_num(inputs), 0, len(self.words) - 1).round().astype(np.int64)

    def text(self, ids: NDArray[Any]) -> str:
        """One text, ids (length,), in words with blanks between; padding is left out at its end alone."""
        last = np.flatnonzero(np.asarray(ids) != PADDING)
        return " ".join(self.words[one] or "_" for one in ids[: last[-1] + 1 if len(last) else 0])

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw texts position by position from the published frequencies, as inputs (count, length)."""
        columns = [
            rng.choice(ids, count, p=np.asarray(shares) / sum(shares))
            for ids, shares in zip(self.frequent, self.shares, strict=True)
        ]
        return np.stack(columns, axis=1).astype(np.float64)


Column = Annotated[Continuous | Categorical | Image | Tokens, Field(discriminator="kind")]


def fit_continuous(
    name: str, values: NDArray[Any], *, integer: bool = False, unit: str = "", sensitive: bool = False
) -> Continuous:
    """Compute the published statistics of a numeric column (n,). A constant column gets a standard deviation of 1.

    Mean and standard deviation are those of the values without outliers, see `_without_outliers`: one wrong entry
    would else make every guess right to within a part of the standard deviation. `low` and `high` are exact.
    """
    numbers = np.asarray(values, np.float64)
    usual = _without_outliers(numbers)
    std = float(usual.std()) or 1.0
    return Continuous(
        name=name,
        mean=float(usual.mean()),
        std=std,
        low=float(numbers.min()),
        high=float(numbers.max()),
        mode=densest(numbers, 0.319 * std),
        integer=integer,
        unit=unit,
        sensitive=sensitive,
    )


def fit_categorical(
    name: str, values: NDArray[Any], *, order: Sequence[str] | None = None, sensitive: bool = False
) -> Categorical:
    """Compute the published values and frequencies of a column of strings (n,); values in `order`, or sorted."""
    found, counts = np.unique(np.asarray(values, dtype=str), return_counts=True)
    share = dict(zip(found.tolist(), (counts / counts.sum()).tolist(), strict=True))
    kept = tuple(order) if order is not None else tuple(share)
    return Categorical(name=name, values=kept, frequencies=tuple(share.get(v, 0.0) for v in kept), sensitive=sensitive)


def fit_tokens(name: str, ids: NDArray[np.int64], words: Sequence[str]) -> Tokens:
    """Compute the published statistics of texts, ids (n, length): the FREQUENT most frequent ids of each position."""
    counted = [np.bincount(column, minlength=len(words)) for column in ids.T]
    top = [np.argsort(-count, kind="stable")[:FREQUENT] for count in counted]
    kept = [order[count[order] > 0] for order, count in zip(top, counted, strict=True)]
    return Tokens(
        name=name,
        words=tuple(words),
        frequent=tuple(tuple(order.tolist()) for order in kept),
        shares=tuple(tuple((c[order] / len(ids)).tolist()) for order, c in zip(kept, counted, strict=True)),
    )


def _without_outliers(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The numbers (n,), with those further than FAR interquartile ranges from the quartiles moved to NEAR of them.

    Where half of the numbers are equal the quartiles are those of the others. Tukey 1977 calls 3 ranges "far out";
    skewed columns have many such values, and keep them.
    """
    low, high = np.quantile(numbers, [0.25, 0.75])
    if low == high:
        others = numbers[numbers != low]
        low, high = np.quantile(others, [0.25, 0.75]) if len(others) else (low, high)
    span = high - low
    if span == 0:
        return numbers
    moved = np.where(numbers > high + FAR * span, high + NEAR * span, numbers)
    return np.where(numbers < low - FAR * span, low - NEAR * span, moved)


def densest(numbers: NDArray[np.float64], radius: float) -> float:
    """Center of the interval of half-width `radius` that contains the most of the numbers (n,)."""
    ordered = np.sort(numbers)
    held = np.searchsorted(ordered, ordered + 2 * radius, side="right") - np.arange(len(ordered))
    start = int(np.argmax(held))
    return float((ordered[start] + ordered[start + held[start] - 1]) / 2)
