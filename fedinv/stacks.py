"""The short way to write plugins: `dp-sgd:epsilon=8:clip=0.5+top-k`, beside it `training.batch_size=32`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedinv import plugins
from fedinv.errors import RequestError, nearest
from fedinv.library import override
from fedinv.results.comparison import NONE
from fedinv.scenario import Scenario, parse

USUAL = (
    "dp-sgd",
    "dp-sgd:epsilon=8",
    "clip-noise",
    "masking",
    "top-k",
    "small-model",
    "dropout",
    "label-smoothing",
)
"""What is compared where nothing else is asked for."""


@dataclass(frozen=True)
class Stack:
    """Defenses that are on together, in this order; none at all is a stack, too."""

    name: str
    defenses: tuple[dict[str, Any], ...] = ()
    knobs: tuple[str, ...] = ()
    """Settings of the training beside them, as `training.batch_size=32`."""

    def on(self, scenario: Scenario) -> Scenario:
        """The scenario with these defenses instead of its own. Raises RequestError where they cannot be had."""
        document = scenario.undefended().model_dump(mode="json", exclude_none=True)
        document |= {"defenses": list(self.defenses), "attacks": []}
        for knob in self.knobs:
            override(document, knob)
        return parse(document, f"defenses {self.name!r}")


def stacks(texts: Sequence[str]) -> list[Stack]:
    """Stacks of their names, each once. Raises RequestError naming the nearest right spelling."""
    return [stack(text) for text in dict.fromkeys(map(str.strip, texts)) if text != NONE]


def stack(text: str) -> Stack:
    """The stack of a text such as `dp-sgd:epsilon=8+top-k`; "none" is the empty one. Raises RequestError."""
    parts = [part.strip() for part in text.split("+") if part.strip() != NONE]
    knobs = tuple(part for part in parts if part.startswith("training.") and "=" in part)
    return Stack(text, tuple(plugin("defenses", part) for part in parts if part not in knobs), knobs)


def plugin(
    group: Literal["attacks", "defenses"], text: str, own: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """A plugin's table from a text such as `top-k:keep=0.1`.

    `own` are tables by kind that the settings are added to, as a scenario has them. Raises RequestError naming the
    nearest right kind, or a setting without a value.
    """
    kind, *settings = text.strip().split(":")
    known = plugins.available(group)
    if kind not in known:
        raise RequestError(f"{group} {text!r}: unknown {group.removesuffix('s')} {kind!r}{nearest(kind, known)}")
    document: dict[str, Any] = {**(own or {}).get(kind, {}), "kind": kind}
    for setting in settings:
        if "=" not in setting:
            raise RequestError(f"{group} {text!r}: {setting!r} is no setting, write {kind}:key=value")
        override(document, setting)
    return document
