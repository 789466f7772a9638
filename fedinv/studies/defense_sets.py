"""Sets of defenses in the short form: `dp-sgd:epsilon=8:clip=0.5+top-k`, beside it `training.batch_size=32`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedinv import plugins
from fedinv.defense import Defense, Trial
from fedinv.results.comparison import NONE
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import plugin
from fedinv.storage.documents import override


def trials() -> list[tuple[str, type[Defense], Trial]]:
    """The trials of all defenses in their order, each with its defense's kind and class. Imports every defense."""
    found = [(kind, one, trial) for kind, one in plugins.loaded("defenses").items() for trial in one.trials]
    return sorted(found, key=lambda each: (each[2].order, each[0]))


def usual() -> list[str]:
    """The names of the stacks that are compared where nothing else is asked for: one for each trial of a defense."""
    written = [
        (kind, [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()]) for kind, _, trial in trials()
    ]
    return [":".join([kind, *settings]) for kind, settings in written]


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
