"""One file a defense that can be answered: named after its kind, found because it is there.

Each has some of these functions, given what the scenario says of the defense:

look(last, defense, knows) -> Exchange                  what to attack instead
telling(last, defense, knows) -> dict[str, Tensor]      bool by parameter: what still tells of the gradient
rounding(last, defense, knows) -> float                 standard deviation of what it added to each number
only_signs(last, defense, knows) -> bool                whether nothing but signs was sent
any_record(knows) -> bool   whether what was trained on is no valid record, so that none must be looked for
unsteady(knows) -> bool     whether signals are not what the weights that were sent say
decode(claim, seen, defense, knows, rng) -> Claim       the records, undone what training did to them
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Observation

ANSWERED = frozenset(
    path.stem.replace("_", "-") for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")
)
"""Kinds of defense that have an answer here."""


def looked(seen: Observation, knows: Knowledge) -> Observation:
    """The observation as it should be attacked, knowing of the defenses."""
    for defense, answer in _answers(knows):
        if hasattr(answer, "look"):
            exchanges = tuple(answer.look(one, defense, knows) for one in seen.exchanges)
            seen = replace(seen, exchanges=exchanges)
    return seen


def granted(knows: Knowledge) -> Knowledge:
    """What is known for a search by equations: without the schema where what was trained on is no valid record."""
    free = any(answer.any_record(knows) for _, answer in _answers(knows) if hasattr(answer, "any_record"))
    return replace(knows, schema=None) if free else knows


def unsteady(knows: Knowledge) -> bool:
    """Whether chance is in the network, so that what a record sends back does not follow from the weights."""
    return any(answer.unsteady(knows) for _, answer in _answers(knows) if hasattr(answer, "unsteady"))


def telling(last: Exchange, knows: Knowledge) -> dict[str, Tensor] | None:
    """Which coordinates of the update tell of the gradient, bool by parameter; None where all do."""
    found: dict[str, Tensor] | None = None
    for defense, answer in _answers(knows):
        if hasattr(answer, "telling"):
            masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in last.received.items()}
            masks |= answer.telling(last, defense, knows)
            found = masks if found is None else {name: found[name] & mask for name, mask in masks.items()}
    return found


def rounding(last: Exchange, knows: Knowledge) -> float:
    """Standard deviation of what rounding added to each number of the update; 0 where none is known of."""
    found = [answer.rounding(last, d, knows) for d, answer in _answers(knows) if hasattr(answer, "rounding")]
    return math.hypot(*found)


def only_signs(last: Exchange, knows: Knowledge) -> bool:
    """Whether nothing but the signs of an update was sent."""
    return any(answer.only_signs(last, d, knows) for d, answer in _answers(knows) if hasattr(answer, "only_signs"))


def decoded(claim: Claim, seen: Observation, knows: Knowledge, rng: np.random.Generator) -> Claim:
    """The claim with what training did to the records undone, the last defense first."""
    for defense, answer in reversed(list(_answers(knows))):
        if hasattr(answer, "decode") and len(claim.records):
            claim = answer.decode(claim, seen, defense, knows, rng)
    return claim


def _answers(knows: Knowledge) -> Iterator[tuple[Mapping[str, Any], ModuleType]]:
    for defense in knows.defenses or ():
        if defense["kind"] in ANSWERED:
            yield defense, _module(str(defense["kind"]))


@cache
def _module(kind: str) -> ModuleType:
    return import_module(f".{kind.replace('-', '_')}", __name__)


def answered(*ways: str) -> frozenset[str]:
    """Kinds of defense that are answered in one of these ways, by the functions' names."""
    return frozenset(kind for kind in ANSWERED if any(hasattr(_module(kind), way) for way in ways))
