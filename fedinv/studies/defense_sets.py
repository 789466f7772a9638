"""Defenses by name, as a command line writes them: `dp-sgd:epsilon=8:clip=0.5+top-k`, or `training.batch_size=32`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedinv import plugins
from fedinv.errors import RequestError, nearest
from fedinv.results.comparison import NONE
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.storage.documents import override

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
"""Stacks of defenses that a comparison runs where none are named."""


@dataclass(frozen=True)
class Stack:
    """Defenses that are on together, in this order; a stack may be empty."""

    name: str
    """Text that names the stack on a command line and in tables."""
    defenses: tuple[dict[str, Any], ...] = ()
    """The defenses' tables, as a scenario's [[defenses]]."""
    knobs: tuple[str, ...] = ()
    """Overrides of the scenario's training, as `training.batch_size=32`."""

    def on(self, scenario: Scenario) -> Scenario:
        """The scenario with this stack in place of its own defenses, without attacks.

        Raises RequestError where the scenario cannot have it.
        """
        document = scenario.undefended().model_dump(mode="json", exclude_none=True)
        document |= {"defenses": list(self.defenses), "attacks": []}
        for knob in self.knobs:
            override(document, knob)
        return parse(document, f"--defenses {self.name}")


def stacks(texts: Sequence[str]) -> list[Stack]:
    """The stacks of these texts, each once, without the empty one. Raises RequestError naming the nearest spelling."""
    return [_stack(text.strip()) for text in dict.fromkeys(texts) if text.strip() != NONE]


def _stack(text: str) -> Stack:
    parts = [part.strip() for part in text.split("+")]
    knobs = tuple(part for part in parts if part.startswith("training.") and "=" in part)
    return Stack(text, tuple(_defense(part) for part in parts if part not in knobs), knobs)


def _defense(text: str) -> dict[str, Any]:
    kind, *settings = text.split(":")
    known = plugins.available("defenses")
    if kind not in known:
        raise RequestError(f"--defenses {text}: unknown defense {kind!r}{nearest(kind, known)}")
    document: dict[str, Any] = {"kind": kind}
    for setting in settings:
        if "=" not in setting:
            raise RequestError(f"--defenses {text}: {setting!r} is no setting, write {kind}:key=value")
        override(document, setting)
    return document
