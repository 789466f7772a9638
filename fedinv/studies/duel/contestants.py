"""Which deviations and which detectors a duel pits against each other, and what adaptive deviations change."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedinv import plugins
from fedinv.detector import Detector
from fedinv.deviation import Dial
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import made, plugin
from fedinv.studies.duel.cells import parsed

ALL = "all"
"""Word for every deviation or detector there is."""


@dataclass(frozen=True)
class Contestant:
    """Deviations that are carried out together, in this order."""

    name: str
    """Text that names them on a command line and in tables."""
    tables: tuple[Mapping[str, Any], ...]
    """Tables of these deviations, as a scenario's [[server.deviations]]."""

    def evasions(self) -> Iterator[tuple[str, tuple[Mapping[str, Any], ...]]]:
        """What is changed to evade detectors, in words, and the changed tables; the first deviation is the one."""
        first, *others = self.tables
        for settings in type(parsed(first)).evasions:
            changed = {**first, **settings}
            if changed != first:
                yield said(settings), (changed, *others)

    def dials(self) -> tuple[Dial, ...]:
        """Settings of the first deviation of which a value is searched."""
        return type(parsed(self.tables[0])).dials

    def turned(self, dial: Dial, value: float) -> tuple[str, tuple[Mapping[str, Any], ...]]:
        """The value of a dial in words, and the changed tables."""
        first, *others = self.tables
        settings = {**dial.beside, dial.key: value}
        return said(settings), ({**first, **settings}, *others)


def said(settings: Mapping[str, Any]) -> str:
    """Changed settings in words."""
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def contestants(scenario: Scenario, texts: Sequence[str] = ()) -> list[Contestant]:
    """The deviations of these texts, such as "grid:tables=2" or "fishing+freeze"; all there are of "all", or none.

    A kind has the settings that the scenario gives it, and beside clients that take several local steps those that it
    proposes for them, unless the text gives others. Raises RequestError naming the nearest right spelling.
    """
    own = {
        str(table["kind"]): {key: value for key, value in table.items() if key not in ("rounds", "kind")}
        for table in scenario.model_dump(mode="json", exclude_none=True)["server"].get("deviations", ())
    }
    if scenario.training.algorithm == "fedavg":
        for kind, one in plugins.loaded("deviations").items():
            own[kind] = {**one.over_steps, **own.get(kind, {})}
    named = list(dict.fromkeys(text.strip() for text in texts if text.strip() != ALL))
    if not named or ALL in [text.strip() for text in texts]:
        named += [kind for kind in plugins.available("deviations") if kind not in named]
    found = []
    for text in named:
        tables = tuple(plugin("deviations", part, own) for part in text.split("+"))
        for table in tables:
            made("deviations", table)
        found.append(Contestant(text, tables))
    return found


def detectors(scenario: Scenario, texts: Sequence[str] = ()) -> list[Detector]:
    """The detectors of these texts, such as "repeated-weights:rounds=3"; of "all", or none, every one there is.

    A kind has the settings that the scenario gives it; its threshold and action play no part. Raises RequestError
    naming the nearest right spelling.
    """
    own = {one.kind: one.model_dump(mode="json", exclude_defaults=True) for one in scenario.vetting}
    named = list(dict.fromkeys(text.strip() for text in texts if text.strip() != ALL))
    if not named or ALL in [text.strip() for text in texts]:
        there = {text.split(":")[0] for text in named}
        named += [kind for kind in plugins.available("detectors") if kind not in there]
    return [made("detectors", plugin("detectors", text, own)) for text in named]
