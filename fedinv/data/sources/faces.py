"""Synthetic faces: color portraits of people who do not exist."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.federation.streams import stream
from fedinv.task.columns import Image
from fedinv.task.schema import Schema

Numbers = NDArray[np.float64]
Traits = Mapping[str, Numbers]
"""By name, one row an image: (n,) sizes and places, the face 2 wide and 2 high at most, or (n, 3) colors."""

SKINS = ((0.96, 0.83, 0.73), (0.92, 0.74, 0.60), (0.80, 0.60, 0.44), (0.62, 0.43, 0.30), (0.42, 0.28, 0.20))
HAIRS = (
    (0.10, 0.08, 0.07),
    (0.30, 0.18, 0.10),
    (0.55, 0.33, 0.15),
    (0.86, 0.70, 0.38),
    (0.62, 0.22, 0.10),
    (0.72,) * 3,
)
EYES = ((0.20, 0.12, 0.08), (0.22, 0.40, 0.62), (0.25, 0.45, 0.28), (0.40, 0.30, 0.16))
SHIRTS = ((0.20, 0.30, 0.55), (0.60, 0.18, 0.20), (0.25, 0.45, 0.30), (0.85, 0.85, 0.85), (0.16, 0.16, 0.20))


class Faces(Dataset):
    """Portraits drawn from the traits of a person, with the label `person`: whose face it is.

    A person has a skin, a head, hair, eyes, brows, a nose, a mouth, perhaps glasses or a beard. Images of one person
    differ in place and turn of the head, light, expression, background and noise. Values go from 0 to 1; no real
    person's picture went into them.
    """

    people = "portraits"
    images = True

    source: Literal["faces"]
    persons: int = Field(default=20, ge=2, le=1000)
    """People, each of them a class."""
    portraits: int = Field(default=20, ge=2, le=1000)
    """Images of each person."""
    size: Literal[16, 32] = 32
    """Pixels down and across."""

    def load(self, seed: int) -> Table:
        """Return the portraits in a random order, equally many of each person."""
        rng = stream(seed, "faces")
        who = rng.permutation(np.repeat(np.arange(self.persons), self.portraits))
        person = {name: values[who] for name, values in _person(self.persons, rng).items()}
        pixels = draw({**person, **_moment(len(who), rng)}, self.size)
        pixels = np.clip(pixels + 0.015 * rng.standard_normal(pixels.shape), 0, 1).reshape(len(who), -1)
        image = Image(
            name="portrait",
            channels=3,
            down=self.size,
            across=self.size,
            mean=float(pixels.mean()),
            std=float(pixels.std()),
            low=0.0,
            high=1.0,
        )
        width = len(str(self.persons))
        schema = Schema(
            columns=(image,), label="person", classes=tuple(f"person {i + 1:0{width}}" for i in range(self.persons))
        )
        return Table(schema=schema, columns={"portrait": pixels}, labels=who.astype(np.int64))


def _person(n: int, rng: np.random.Generator) -> Traits:
    """The traits that stay."""

    def between(low: float, high: float) -> Numbers:
        return rng.uniform(low, high, n)

    def tint(palette: tuple[tuple[float, ...], ...], spread: float = 0.04) -> Numbers:
        return np.clip(
            np.array(palette)[rng.integers(len(palette), size=n)] + rng.normal(0, spread, (n, 1)), 0.03, 0.97
        )

    return {
        "skin": tint(SKINS),
        "hair": tint(HAIRS),
        "iris": tint(EYES),
        "shirt": tint(SHIRTS),
        "wide": between(0.46, 0.60),
        "tall": between(0.62, 0.76),
        "jaw": between(-0.22, 0.14),
        "hairline": between(0.30, 0.52),
        "length": rng.choice([-0.25, 0.05, 0.45, 0.95], n),
        "volume": between(0.05, 0.16),
        "bald": rng.random(n) < 0.12,
        "parting": between(-0.3, 0.3),
        "eye_apart": between(0.19, 0.27),
        "eye_high": between(-0.10, 0.0),
        "eye_size": between(0.075, 0.115),
        "brow_thick": between(0.02, 0.055),
        "brow_slant": between(-0.25, 0.25),
        "nose_long": between(0.13, 0.24),
        "nose_wide": between(0.06, 0.12),
        "mouth_wide": between(0.15, 0.26),
        "mouth_high": between(0.34, 0.42),
        "lip": between(0.03, 0.06),
        "red": between(0.0, 1.0),
        "glasses": rng.random(n) < 0.3,
        "beard": np.where(rng.random(n) < 0.3, between(0.5, 0.95), 0.0),
        "mustache": np.where(rng.random(n) < 0.2, 0.85, 0.0),
    }


def _moment(n: int, rng: np.random.Generator) -> Traits:
    """What differs from one portrait to the next."""
    return {
        "x": rng.normal(0, 0.035, n),
        "y": rng.normal(0, 0.03, n),
        "zoom": rng.normal(1, 0.03, n),
        "tilt": rng.normal(0, 0.05, n),
        "turn": rng.normal(0, 0.04, n),
        "light": rng.normal(1, 0.07, n),
        "light_x": rng.normal(0, 0.13, n),
        "light_y": rng.normal(-0.06, 0.06, n),
        "smile": rng.uniform(-0.4, 1.4, n),
        "open": np.maximum(rng.normal(0.0, 0.03, n), 0),
        "lids": rng.uniform(0.65, 1.0, n),
        "raise": rng.normal(0, 0.015, n),
        "wall": 0.62 + rng.normal(0, 0.06, (n, 1)) + rng.normal(0, 0.02, (n, 3)),
    }


def draw(t: Traits, size: int) -> Numbers:
    """Paint portraits of these traits: (n, 3, size, size) in [0, 1], edges as soft as a pixel."""
    traits = {name: np.asarray(v, float)[:, None, None] if v.ndim == 1 else v for name, v in t.items()}
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    across, down = (
        (axis[None, None, :] - traits["x"]) * traits["zoom"],
        (axis[None, :, None] - traits["y"]) * traits["zoom"],
    )
    x, y = across + traits["tilt"] * down, down - traits["tilt"] * across
    canvas = np.broadcast_to(traits["wall"][:, :, None, None], (len(x), 3, size, size)).copy()
    paint = _Brush(canvas, 1.1 / size)
    _behind(paint, traits, x, y)
    _head(paint, traits, x, y)
    _features(paint, traits, x - traits["turn"], y)
    shade = traits["light"] + traits["light_x"] * x + traits["light_y"] * y
    return np.asarray(np.clip(canvas * shade[:, None], 0, 1))


class _Brush:
    """Lays colors over a canvas (n, 3, size, size), in place."""

    def __init__(self, canvas: Numbers, soft: float) -> None:
        self.canvas, self.soft = canvas, soft

    def cover(self, inside: Numbers) -> Numbers:
        """How much of a pixel a shape covers, from the signed depth of the pixel inside it."""
        return np.asarray(0.5 + 0.5 * np.tanh(inside / self.soft))

    def lay(self, share: Numbers, color: Numbers) -> None:
        """Mix a color (n, 3) in, by a share (n, size, size)."""
        self.canvas += share[:, None] * (color[:, :, None, None] - self.canvas)


def _ellipse(x: Numbers, y: Numbers, wide: Numbers | float, tall: Numbers | float) -> Numbers:
    """Depth inside an ellipse around the origin, to first order at its edge, in units of the plane."""
    radius = np.sqrt(np.square(x / wide) + np.square(y / tall)) + 1e-6
    steep = np.sqrt(np.square(x / np.square(wide)) + np.square(y / np.square(tall))) + 1e-6
    return np.asarray((1 - radius) * radius / steep)


def _behind(paint: _Brush, t: Traits, x: Numbers, y: Numbers) -> None:
    """Shirt, neck and the hair that falls behind the face."""
    paint.lay(paint.cover(_ellipse(x, y - 1.25, 0.88, 0.50)), t["shirt"])
    back = _ellipse(x, y + 0.10, t["wide"] + t["volume"], t["tall"] + 0.8 * t["volume"])
    fall = np.minimum(t["wide"] + t["volume"] - np.abs(x), np.minimum(y + 0.1, t["length"] - y))
    hair = paint.cover(np.minimum(np.maximum(back, fall), t["length"] - y)) * (1 - t["bald"])
    paint.lay(hair, 0.85 * t["hair"])
    neck = np.minimum(0.42 * t["wide"] - np.abs(x), np.minimum(y - 0.2, 0.86 - y))
    paint.lay(paint.cover(neck), 0.84 * t["skin"])


def _head(paint: _Brush, t: Traits, x: Numbers, y: Numbers) -> None:
    """Face, ears, beard and the hair above the forehead."""
    ears = np.maximum(*(_ellipse(x - side * t["wide"], y - 0.02, 0.07, 0.13) for side in (-1, 1)))
    paint.lay(paint.cover(ears), 0.9 * t["skin"])
    wide = t["wide"] * (1 + t["jaw"] * np.clip(y, 0, 1))
    face = _ellipse(x, y, wide, t["tall"])
    paint.lay(paint.cover(face), t["skin"])
    cheeks = np.exp(-(np.square(np.abs(x) - 0.3) + np.square(y - 0.2)) / 0.02)
    paint.lay(0.12 * cheeks * paint.cover(face), np.broadcast_to([0.85, 0.35, 0.3], t["skin"].shape))
    chin = np.maximum(y - 0.22 - 0.25 * (1 - np.square(x / wide)), np.abs(x) / wide - 0.8) * 0.6
    paint.lay(t["beard"] * paint.cover(np.minimum(face, np.minimum(chin, y - 0.05))), t["hair"])
    cap = np.minimum(
        _ellipse(x, y + 0.06, t["wide"] + 0.5 * t["volume"], t["tall"] + t["volume"]),
        -t["hairline"] - y + 0.55 * np.square(x - t["parting"]),
    )
    paint.lay(paint.cover(cap) * (1 - t["bald"]), t["hair"])


def _features(paint: _Brush, t: Traits, x: Numbers, y: Numbers) -> None:
    """Eyes, brows, nose, mouth, mustache and glasses, which move as the head turns."""
    dark = np.broadcast_to([0.05, 0.05, 0.06], t["skin"].shape)
    white = np.broadcast_to([0.95, 0.95, 0.93], t["skin"].shape)
    size, high = t["eye_size"], t["eye_high"]
    for side in (-1, 1):
        ex, ey = x - side * t["eye_apart"], y - high
        lids = paint.cover(_ellipse(ex, ey, 1.25 * size, 0.8 * size * t["lids"]))
        paint.lay(lids, white)
        paint.lay(np.minimum(lids, paint.cover(_ellipse(ex, ey, 0.62 * size, 0.62 * size))), t["iris"])
        paint.lay(np.minimum(lids, paint.cover(_ellipse(ex, ey, 0.28 * size, 0.28 * size))), dark)
        arch = ey + 1.5 * size + 0.03 + t["raise"] - side * t["brow_slant"] * ex + 1.2 * np.square(ex)
        brow = np.minimum(t["brow_thick"] - np.abs(arch), 1.5 * size - np.abs(ex))
        paint.lay(0.9 * paint.cover(brow), 0.7 * t["hair"])
        rim = 0.022 - np.abs(_ellipse(ex, ey - 0.01, 0.175, 0.145))
        paint.lay(t["glasses"] * paint.cover(rim), dark)
    bridge = np.minimum(0.02 - np.abs(y - high), t["eye_apart"] - 0.17 - np.abs(x))
    paint.lay(t["glasses"] * paint.cover(bridge), dark)
    tip = high + 0.06 + t["nose_long"]
    ridge = np.minimum(0.03 - np.abs(x - 0.035), np.minimum(y - high - 0.02, tip - y))
    paint.lay(0.35 * paint.cover(ridge), 0.7 * t["skin"])
    paint.lay(0.6 * paint.cover(_ellipse(x, y - tip, t["nose_wide"], 0.045)), 0.72 * t["skin"])
    my = y - t["mouth_high"] - t["open"] / 2 + 1.2 * t["smile"] * np.square(x) - 0.02 * t["smile"]
    paint.lay(t["mustache"] * paint.cover(_ellipse(x, my + 0.09, 1.1 * t["mouth_wide"], 0.055)), t["hair"])
    tone = np.concatenate(
        [np.full_like(t["red"][:, 0], 0.72), 0.45 - 0.25 * t["red"][:, 0], 0.42 - 0.2 * t["red"][:, 0]], 1
    )
    lips = 0.45 * t["skin"] + 0.55 * tone
    paint.lay(paint.cover(_ellipse(x, my, t["mouth_wide"], t["lip"] + t["open"])), lips)
    paint.lay(paint.cover(_ellipse(x, my, 0.8 * t["mouth_wide"], 0.012 + t["open"])), 0.35 * lips)
