"""What the lab offers, read from menu.toml: scenarios, networks, crowds, defenses and servers, each with a title."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import Field, model_validator

from fedinv import plugins
from fedinv.strict import Strict

FILE = Path(__file__).with_name("menu.toml")
"""The menu's file, beside this one."""
NO_DEFENSE = "none"
"""Name of the choice of no defense."""


class OfferedScenario(Strict):
    """A shipped scenario that the lab starts from."""

    name: str
    """Name of the shipped scenario."""
    title: str
    """Words for it on the page."""
    network: str
    """Name of the network that it has unless another one is chosen."""
    attacks: tuple[str, ...]
    """Attacks in the short form, such as "exact"; quick ones, so that the page answers at once."""
    start: Mapping[str, int]
    """Values at which the controls batch_size, epochs and clients begin."""
    changes: Mapping[str, Any] = Field(default_factory=dict)
    """Changed keys of the scenario, dotted, with their values."""
    own: bool = False
    """True: its records are read from a csv file that the user names."""


class Network(Strict):
    """A network that may be chosen."""

    name: str
    """Name of the choice."""
    title: str
    """Words for it on the page."""
    model: Mapping[str, Any]
    """The scenario's [model]."""


class Crowd(Strict):
    """Who sees updates one by one: the server, or nobody."""

    name: str
    """Name of the choice."""
    title: str
    """Words for it on the page."""
    defenses: tuple[str, ...] = ()
    """Defenses in the short form that make it so."""
    attacks: tuple[str, ...] = ()
    """Attacks, in the short form, on the sum that is left to the server."""
    behind: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Defenses in place of these for servers, by name, that set them otherwise."""


class OfferedDefense(Strict):
    """A defense with the one setting that makes it stronger."""

    kind: str
    """Kind of the defense."""
    key: str | None = None
    """Setting that the strength changes; None: it has a single strength, its defaults."""
    weakest: float = Field(default=0.0, alias="from")
    """Value of the setting at strength 0."""
    strongest: float = Field(default=0.0, alias="to")
    """Value of the setting at strength 1; values between are spaced evenly on a logarithmic scale."""
    says: str = ""
    """Words for the setting on the page."""

    @model_validator(mode="after")
    def _positive(self) -> "OfferedDefense":
        if self.key is not None and min(self.weakest, self.strongest) <= 0:
            raise ValueError(f"{self.kind}: from and to must be positive, as values are spaced logarithmically")
        return self

    def value(self, strength: float) -> float:
        """The setting at a strength from 0, the weakest, to 1, rounded to two digits."""
        return float(f"{self.weakest * (self.strongest / self.weakest) ** strength:.2g}")


class OfferedServer(Strict):
    """A server that follows the protocol, or deviates in one way."""

    name: str
    """Name of the choice."""
    title: str
    """Words for it on the page."""
    deviation: str | None = None
    """Kind of the deviation; None: it follows the protocol."""
    needs: Mapping[str, Any] = Field(default_factory=dict)
    """Keys of the scenario, dotted, that the deviation was made for."""


class Menu(Strict):
    """Everything that can be chosen on the page."""

    scenarios: tuple[OfferedScenario, ...]
    """Scenarios, the first of which is shown when the page opens."""
    networks: tuple[Network, ...]
    """Networks that may be trained."""
    crowds: tuple[Crowd, ...]
    """Crowds, the first of which is none."""
    defenses: tuple[OfferedDefense, ...]
    """Defenses with a strength."""
    servers: tuple[OfferedServer, ...]
    """Servers, the first of which follows the protocol."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Choice = TypeVar("Choice", bound=_Named)


@cache
def menu() -> Menu:
    """The menu, with the defenses of other packages after those that it names; read once."""
    found = Menu.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))
    crowds = {kind for crowd in found.crowds for kind in crowd.defenses}
    named = {one.kind for one in found.defenses} | crowds
    others = [
        OfferedDefense(kind=kind)
        for kind, plugin in plugins.loaded("defenses").items()
        if kind not in named and not plugin.secure_aggregation
    ]
    return found.model_copy(update={"defenses": (*found.defenses, *others)})


def named(choices: Sequence[Choice], name: str) -> Choice:
    """The choice of this name. Raises KeyError where there is none."""
    for one in choices:
        if one.name == name:
            return one
    raise KeyError(name)


def defense(kind: str) -> OfferedDefense | None:
    """The offered defense of a kind; None for `NO_DEFENSE`. Raises KeyError for any other that is not offered."""
    if kind == NO_DEFENSE:
        return None
    for one in menu().defenses:
        if one.kind == kind:
            return one
    raise KeyError(kind)
