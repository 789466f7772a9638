"""Countermeasures: how an attacker who knows of a defense adapts to it, one file a defense, named after its kind.

A file has some of these functions. `defense` is the defense's table with the parameters in force, as `Defense.known`
gives it; `last` is one exchange, as `look` returns it.

look(last, defense, knows) -> Exchange               the exchange to attack instead
noise(last, defense, knows) -> float                 standard deviation of the noise drawn for each coordinate
rounding(last, defense, knows) -> float              standard deviation of the rounding error of each coordinate
record_clip(defense) -> float                        norm to which each record's gradient was clipped
update_clip(defense) -> float                        norm to which the whole update was clipped
divisor(defense) -> float                            number that sums of gradients were divided by
masks(last, defense, knows) -> dict[str, Tensor]     bool by parameter: coordinates that still depend on the gradient
only_signs(last, defense, knows) -> bool             whether nothing but signs was sent
trains_on_invalid_records(knows) -> bool             the client trained on altered inputs: require no valid records
random_network(knows) -> bool                        the network had random parts: hold no signal against the weights
decode(claim, seen, defense, knows, rng) -> Claim    the claim, with the defense's change of the records undone

A defense against which there is nothing to do has a file that says why: NOTHING_TO_ADAPT_TO = "...", and no function.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Observation

from ..inversion.distortion import Distortion

WAYS = (
    "look",
    "noise",
    "rounding",
    "record_clip",
    "update_clip",
    "divisor",
    "masks",
    "only_signs",
    "trains_on_invalid_records",
    "random_network",
    "decode",
)
"""Names of the functions that a file here may have."""


@dataclass(frozen=True)
class Countermeasures:
    """An observation as it should be attacked, and the effects of the known defenses on it."""

    seen: Observation
    """The observation, changed as the known defenses ask for."""
    knows: Knowledge
    """The attacker's knowledge, unchanged."""

    @property
    def requires(self) -> Knowledge:
        """The knowledge by which records may be verified: without the schema if the client altered its inputs."""
        altered = any(m.trains_on_invalid_records(self.knows) for _, m in self._having("trains_on_invalid_records"))
        return replace(self.knows, schema=None) if altered else self.knows

    @property
    def random_network(self) -> bool:
        """Whether the network had random parts, so that a record's signal does not follow from the sent weights."""
        return any(module.random_network(self.knows) for _, module in self._having("random_network"))

    def distortion(self, exchange: Exchange) -> Distortion:
        """The effect of the known defenses on the update of one of the exchanges in `seen`."""
        knows = self.knows.at(exchange.round)
        return Distortion(
            noise=math.hypot(*(m.noise(exchange, d, knows) for d, m in self._having("noise"))),
            rounding=math.hypot(*(m.rounding(exchange, d, knows) for d, m in self._having("rounding"))),
            record_clip=min((m.record_clip(d) for d, m in self._having("record_clip")), default=math.inf),
            update_clip=min((m.update_clip(d) for d, m in self._having("update_clip")), default=math.inf),
            divisor=max((m.divisor(d) for d, m in self._having("divisor")), default=0.0),
            masks=self._masks(exchange),
            only_signs=any(m.only_signs(exchange, d, knows) for d, m in self._having("only_signs")),
        )

    def decode(self, claim: Claim, rng: np.random.Generator) -> Claim:
        """The claim with the known defenses' changes of the records undone, the last defense's first."""
        for defense, module in reversed(list(self._having("decode"))):
            if len(claim.records):
                found = module.decode(claim, self.seen, defense, self.knows, rng)
                # what was checked, and trained on again, is what the network saw
                claim = found if found.records is claim.records else replace(found, checked=None, mismatch=None)
        return claim

    def _masks(self, exchange: Exchange) -> dict[str, Tensor] | None:
        """Coordinates, bool by parameter, that no known defense removed; None where none removes any."""
        found: dict[str, Tensor] | None = None
        for defense, module in self._having("masks"):
            told = module.masks(exchange, defense, self.knows)
            if not told:
                continue
            masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in exchange.received.items()}
            masks |= told
            found = masks if found is None else {name: found[name] & mask for name, mask in masks.items()}
        return found

    def _having(self, way: str) -> Iterator[tuple[Mapping[str, Any], ModuleType]]:
        """The known defenses whose file here has this function, each as its table and the file's module."""
        return _having(self.knows, way)


def answer(seen: Observation, knows: Knowledge) -> Countermeasures:
    """The countermeasures to all known defenses; without any, the observation is attacked as it is."""
    for defense, module in _having(knows, "look"):
        exchanges = tuple(module.look(one, defense, knows) for one in seen.exchanges)
        seen = replace(seen, exchanges=exchanges)
    return Countermeasures(seen, knows)


def answered(*ways: str) -> frozenset[str]:
    """Kinds of defense whose file here has one of these functions; without names, any function."""
    return frozenset(kind for kind in _files() if any(hasattr(_module(kind), way) for way in ways or WAYS))


def nothing_to_adapt_to(kind: str) -> str | None:
    """Why knowing of this defense helps no attack, by its file; None where there is no such file or statement."""
    return getattr(_module(kind), "NOTHING_TO_ADAPT_TO", None) if kind in _files() else None


def _having(knows: Knowledge, way: str) -> Iterator[tuple[Mapping[str, Any], ModuleType]]:
    for defense in knows.defenses or ():
        if defense["kind"] in _files() and hasattr(_module(str(defense["kind"])), way):
            yield defense, _module(str(defense["kind"]))


@cache
def _files() -> Mapping[str, str]:
    """The module of each kind of defense that has a file here, relative to this package."""
    here = Path(__file__).parent
    return {
        path.stem.replace("_", "-"): ".".join(("", *path.relative_to(here).with_suffix("").parts))
        for path in here.rglob("[!_]*.py")
    }


@cache
def _module(kind: str) -> ModuleType:
    return import_module(_files()[kind], __name__)
