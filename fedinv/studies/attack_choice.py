"""Which attacks a study runs: those that are named and every other one that applies; and which it leaves out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedinv import plugins
from fedinv.attack import Attack
from fedinv.errors import RequestError
from fedinv.runs.run import parse_attack
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import plugin
from fedinv.task.models import perceptron

ALL = "all"
"""Word for every attack that applies, with its full settings."""


@dataclass(frozen=True)
class Choice:
    """Attacks that a study runs, and those that it does not."""

    attacks: tuple[Attack, ...]
    """Attacks in the order in which they are shown."""
    not_tried: Mapping[str, str]
    """Reason by kind for each attack that is not run: nothing is known of what it would reveal."""


def choice(scenario: Scenario, texts: Sequence[str] = (), *, only: bool = False, quick: bool = False) -> Choice:
    """Attacks by kind with settings, as `gradient-matching:restarts=4`, and every other one that applies.

    Settings are those of the scenario's own attack of that kind unless the text gives others. Without any text, the
    scenario's own attacks; with `quick`, those to which it gives no settings have their quick ones. To them is added
    each attack that suits the model and answers something that none of them does: with its quick settings, or with its
    full ones where "all" is among the texts. With `only`, none is added.

    Raises RequestError naming the nearest right spelling, and where there is no attack at all.
    """
    own = {a.kind: a.model_dump(mode="json", exclude_defaults=True) for a in scenario.attacks}
    named = [text for text in dict.fromkeys(texts) if text != ALL]
    if named or ALL in texts:
        found = [parse_attack(plugin("attacks", text, own)) for text in named]
    else:
        found = [_quickly(attack) if quick else attack for attack in scenario.attacks]
    not_tried: dict[str, str] = {}
    for kind, attack in plugins.loaded("attacks").items():
        settings, why = _unasked(scenario, attack, every=ALL in texts)
        for one in [attack.model_validate({"kind": kind, **one}) for one in settings if not only]:
            if (kind, one.asks) not in {(other.kind, other.asks) for other in found}:
                found.append(one)
        if all(one.kind != kind for one in found):
            not_tried[kind] = "left out, as only what was named was to be run" if only and settings else why
    if not found:
        raise RequestError("attacks: none of them suits the model, name some of fedinv list attacks")
    kinds = [attack.kind for attack in found]
    return Choice(tuple(attack.beside(kinds) for attack in found), not_tried)


def _quickly(attack: Attack) -> Attack:
    """An attack with its quick settings where it has some, is given none, and answers the same question with them."""
    if attack.assessed_with is None or attack.model_dump(exclude_defaults=True, exclude={"kind"}):
        return attack
    brisk = parse_attack({"kind": attack.kind, **attack.assessed_with})
    return brisk if brisk.asks == attack.asks else attack


def _unasked(scenario: Scenario, attack: type[Attack], *, every: bool) -> tuple[list[dict[str, Any]], str]:
    """The settings with which an attack is run unasked; empty where it is not, and the reason."""
    if not attack.suits(perceptron(scenario.model)):
        return [], "do not suit this network"
    quick = attack.assessed_with
    if quick is None:
        return ([{}], "") if every else ([], "run only where named, or by --attacks all")
    found = [{}, dict(quick)] if every else [dict(quick)]
    kind = str(attack.model_fields["kind"].default)
    found = [one for one in found if not _of_column(attack, kind, one) or not scenario.data.images]
    return found, "ask for a column, and the records are images"


def _of_column(attack: type[Attack], kind: str, settings: Mapping[str, Any]) -> bool:
    return attack.model_validate({"kind": kind, **settings}).asks in ("attribute", "property")
