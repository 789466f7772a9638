"""Sets of defenses in the short form: `dp-sgd:epsilon=8:clip=0.5+top-k`, beside it `training.batch_size=32`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedinv import plugins
from fedinv.defense import Defense, Trial
from fedinv.federation.strategies import FEDAVG
from fedinv.results.comparison import NONE
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import plugin
from fedinv.storage.documents import override


def trials() -> list[tuple[str, type[Defense], Trial]]:
    """Kind, class and trial of every trial of all defenses, in their order. Imports every defense."""
    found = [(kind, one, trial) for kind, one in plugins.loaded("defenses").items() for trial in one.trials]
    return sorted(found, key=lambda each: (each[2].order, each[0]))


def usual(scenario: Scenario | None = None) -> list[str]:
    """Names of the stacks that a comparison runs where none are named: one for each trial of a defense.

    Of a scenario whose server does more than average, without those defenses that need it to.
    """
    averages = scenario is None or scenario.federation.strategy == FEDAVG
    written = [
        (kind, [f"{key}={json.dumps(value)}" for key, value in trial.settings.items()])
        for kind, defense, trial in trials()
        if averages or defense.averaged_only is None
    ]
    return [":".join([kind, *settings]) for kind, settings in written]


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
        return parse(document, f"defenses {self.name!r}")


def stacks(texts: Sequence[str]) -> list[Stack]:
    """The stacks of these texts, each once, without the empty one. Raises RequestError naming the nearest spelling."""
    return [stack(text) for text in dict.fromkeys(map(str.strip, texts)) if text != NONE]


def stack(text: str) -> Stack:
    """The stack of a text such as `dp-sgd:epsilon=8+top-k`; "none" is the empty one.

    Raises RequestError for an unknown defense, naming the nearest, and for a setting without a value.
    """
    parts = [part.strip() for part in text.split("+") if part.strip() != NONE]
    knobs = tuple(part for part in parts if part.startswith("training.") and "=" in part)
    return Stack(text, tuple(plugin("defenses", part) for part in parts if part not in knobs), knobs)
