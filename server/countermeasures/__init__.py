"""One file a defense, named after its kind and found because it is there: what an attacker does who knows of it.

A file has some of these functions. `defense` is what the scenario writes of the defense, with the noise that was
calibrated for the client; `last` is one exchange, as `look` returns it.

look(last, defense, knows) -> Exchange               the exchange to attack instead
noise(last, defense, knows) -> float                 standard deviation of the noise drawn for each coordinate
rounding(last, defense, knows) -> float              standard deviation of the rounding error of each coordinate
record_clip(defense) -> float                        norm to which each record's gradient was clipped
update_clip(defense) -> float                        norm to which the whole update was clipped
divides_by_batch_size(defense) -> bool               whether gradients' sums were divided by the configured batch size
masks(last, defense, knows) -> dict[str, Tensor]     bool by parameter: coordinates that still depend on the gradient
only_signs(last, defense, knows) -> bool             whether nothing but signs was sent
trains_on_invalid_records(knows) -> bool             the client trained on altered inputs: require no valid records
random_network(knows) -> bool                        the network had random parts: hold no signal against the weights
decode(claim, seen, defense, knows, rng) -> Claim    the records, with what training did to them undone

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
    "divides_by_batch_size",
    "masks",
    "only_signs",
    "trains_on_invalid_records",
    "random_network",
    "decode",
)
"""Names of the functions by which a file here answers its defense."""


@dataclass(frozen=True)
class Countermeasures:
    """An observation as it should be attacked, and what is known of the defenses behind it."""

    seen: Observation
    """The observation as the attacker should look at it, knowing of the defenses."""
    knows: Knowledge
    """What was known beforehand."""

    @property
    def requires(self) -> Knowledge:
        """What a search by equations may hold a record against: no schema if the client altered its inputs."""
        altered = any(m.trains_on_invalid_records(self.knows) for _, m in self._having("trains_on_invalid_records"))
        return replace(self.knows, schema=None) if altered else self.knows

    @property
    def random_network(self) -> bool:
        """Whether the network had random parts, so that a record's signal does not follow from the sent weights."""
        return any(module.random_network(self.knows) for _, module in self._having("random_network"))

    def distortion(self, exchange: Exchange) -> Distortion:
        """What the known defenses did to the update of one of the exchanges in `seen`."""
        knows = self.knows
        return Distortion(
            noise=math.hypot(*(m.noise(exchange, d, knows) for d, m in self._having("noise"))),
            rounding=math.hypot(*(m.rounding(exchange, d, knows) for d, m in self._having("rounding"))),
            record_clip=min((m.record_clip(d) for d, m in self._having("record_clip")), default=math.inf),
            update_clip=min((m.update_clip(d) for d, m in self._having("update_clip")), default=math.inf),
            divides_by_batch_size=any(m.divides_by_batch_size(d) for d, m in self._having("divides_by_batch_size")),
            masks=self._masks(exchange),
            only_signs=any(m.only_signs(exchange, d, knows) for d, m in self._having("only_signs")),
        )

    def decode(self, claim: Claim, rng: np.random.Generator) -> Claim:
        """The claim with what training did to the records undone, the last defense first."""
        for defense, module in reversed(list(self._having("decode"))):
            if len(claim.records):
                claim = module.decode(claim, self.seen, defense, self.knows, rng)
        return claim

    def _masks(self, exchange: Exchange) -> dict[str, Tensor] | None:
        """The coordinates that no known defense took out; None where none takes any out."""
        found: dict[str, Tensor] | None = None
        for defense, module in self._having("masks"):
            masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in exchange.received.items()}
            masks |= module.masks(exchange, defense, self.knows)
            found = masks if found is None else {name: found[name] & mask for name, mask in masks.items()}
        return found

    def _having(self, way: str) -> Iterator[tuple[Mapping[str, Any], ModuleType]]:
        """The known defenses, as the scenario writes them, whose file here has this function; the file beside each."""
        return _having(self.knows, way)


def answer(seen: Observation, knows: Knowledge) -> Countermeasures:
    """What to do about the defenses that are known of; without any, the observation is attacked as it is."""
    for defense, module in _having(knows, "look"):
        exchanges = tuple(module.look(one, defense, knows) for one in seen.exchanges)
        seen = replace(seen, exchanges=exchanges)
    return Countermeasures(seen, knows)


def answered(*ways: str) -> frozenset[str]:
    """Kinds of defense whose file here has one of these functions; without names, one of any."""
    return frozenset(kind for kind in _kinds() if any(hasattr(_module(kind), way) for way in ways or WAYS))


def nothing_to_adapt_to(kind: str) -> str | None:
    """Why knowing of this defense helps no attack; None where its file does not say so, or where it has none."""
    return getattr(_module(kind), "NOTHING_TO_ADAPT_TO", None) if kind in _kinds() else None


def _having(knows: Knowledge, way: str) -> Iterator[tuple[Mapping[str, Any], ModuleType]]:
    for defense in knows.defenses or ():
        if defense["kind"] in _kinds() and hasattr(_module(str(defense["kind"])), way):
            yield defense, _module(str(defense["kind"]))


@cache
def _kinds() -> frozenset[str]:
    paths = Path(__file__).parent.glob("*.py")
    return frozenset(path.stem.replace("_", "-") for path in paths if not path.stem.startswith("_"))


@cache
def _module(kind: str) -> ModuleType:
    return import_module(f".{kind.replace('-', '_')}", __name__)
