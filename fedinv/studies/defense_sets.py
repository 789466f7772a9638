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
        return parse(document, f"--defenses {self.name}")


def stacks(texts: Sequence[str]) -> list[Stack]:
    """Stacks of their names, each once. Raises RequestError naming the nearest right spelling."""
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
