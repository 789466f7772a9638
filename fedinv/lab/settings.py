"""What is chosen on the page, and the scenario that it stands for, through the same validation as any other."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from fedinv import api, plugins
from fedinv.data import table_files
from fedinv.errors import RequestError
from fedinv.lab.menu import NO_DEFENSE, Crowd, OfferedScenario, defense, menu, named
from fedinv.scenario.short_form import plugin
from fedinv.strict import Strict

if TYPE_CHECKING:
    from fedinv.scenario.scenario import Scenario

MOST_CLIENTS, MOST_RECORDS, MOST_EPOCHS = 100, 128, 20
"""Most clients, records in a batch and local epochs that the page offers; a scenario's file may have more."""
LARGEST_UPLOAD = 20 * 2**20
"""Bytes of the largest csv file that the page takes."""
WATCHED = 4
"""Clients that are watched, unless the menu says otherwise for a scenario."""
KEEPS_RECORDS = 16
"""Records of a client, at least, where the scenario it starts from sets no limit."""


class Settings(Strict):
    """The state of the page's controls."""

    scenario: str = ""
    """Name of the scenario on the menu; empty: its first one."""
    path: str = ""
    """Path of a csv file of one's own; read where the scenario asks for one."""
    label: str = Field(default="", max_length=500)
    """Name of that file's column that is predicted."""
    batch_size: int = Field(default=8, ge=1, le=MOST_RECORDS)
    """Records in a batch."""
    epochs: int = Field(default=5, ge=0, le=MOST_EPOCHS)
    """Local epochs; 0 for one step on one batch (federated SGD)."""
    network: str = ""
    """Name of the network on the menu; empty: the scenario's own."""
    optimizer: str = Field(default="sgd", max_length=20)
    """Kind of the local optimizer."""
    clients: int = Field(default=20, ge=2, le=MOST_CLIENTS)
    """Clients, all of which take part in each round."""
    crowd: str = ""
    """Name of the crowd on the menu; empty: the server sees every update by itself."""
    defense: str = NO_DEFENSE
    """Kind of the defense, or "none"."""
    strength: float = Field(default=0.5, ge=0, le=1)
    """Strength of the defense, from 0, the weakest, to 1."""
    server: str = ""
    """Name of the server on the menu; empty: one that follows the protocol."""


def checked(choices: Mapping[str, Any]) -> Settings:
    """The settings of these choices. Raises RequestError, one line, for a value that the page does not offer."""
    try:
        return Settings.model_validate(dict(choices))
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"lab: {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None


def scenario_of(settings: Settings) -> "Scenario":
    """The scenario that the settings stand for.

    Raises RequestError, the line that the command line would print, where they contradict each other or the csv file
    cannot be used.
    """
    try:
        return api.load(settings.scenario or menu().scenarios[0].name, **changes(settings))
    except KeyError as error:
        raise RequestError(f"lab: {error.args[0]!r} is not on the menu") from None


def changes(settings: Settings) -> dict[str, Any]:
    """The changes of the shipped scenario, as `fedinv.load` takes them. Raises KeyError for a choice not on the menu.

    Later ones win: the menu's, the controls', what the chosen server was made for.
    """
    offered = menu()
    base = named(offered.scenarios, settings.scenario or offered.scenarios[0].name)
    network = named(offered.networks, settings.network or base.network)
    crowd = named(offered.crowds, settings.crowd or offered.crowds[0].name)
    server = named(offered.servers, settings.server or offered.servers[0].name)
    found: dict[str, Any] = dict(base.changes)
    found |= {
        "model": dict(network.model),
        "federation.clients": settings.clients,
        "federation.clients_per_round": None,
        "attacker.watch.clients": _watched(settings, base, crowd),
        "training.algorithm": "fedavg" if settings.epochs else "fedsgd",
        "training.batch_size": settings.batch_size,
        "training.records_per_client": max(KEEPS_RECORDS, settings.batch_size),
        "training.optimizer": settings.optimizer,
        "server.kind": "curious" if server.deviation is None else "malicious",
    }
    if settings.epochs:
        found["training.epochs"] = settings.epochs
    if settings.optimizer != "sgd":
        found["training.lr"] = None  # so that the optimizer's usual one holds
    if base.own:
        place = str(Path(settings.path).expanduser().absolute())
        found |= {"data.path": place, "data.label": settings.label, "data.delimiter": header(place).delimiter}
    found |= server.needs
    sums = crowd.behind.get(server.name, crowd.defenses)
    found["defenses"] = [*_defense(settings), *(plugin("defenses", one) for one in sums)]
    attacks = [*(crowd.attacks if crowd.defenses else base.attacks)]
    if server.deviation is not None:
        found["server.deviations"] = [{"kind": server.deviation}]
        attacks = [kind for kind, attack in plugins.loaded("attacks").items() if attack.reads_deviations]
    found["attacks"] = attacks
    return found


@dataclass(frozen=True)
class Header:
    """What is known of a csv file before it is used."""

    columns: tuple[str, ...]
    """Names of its columns, one of which is the label; empty where the first row may be somebody's record."""
    delimiter: str
    """Character between the cells of a row."""


def header(path: str) -> Header:
    """Read a csv file's columns. Raises RequestError, one line that quotes no cell, for a file that is none."""
    place = Path(path).expanduser().absolute()
    found, delimiter = table_files.read(place, ","), ","
    if found.delimiter is not None:
        delimiter = found.delimiter
        found = table_files.read(place, delimiter)
    return Header(tuple(found.texts) if found.listable else (), delimiter)


def toml(scenario: "Scenario") -> str:
    """The scenario as a file that `fedinv run` takes, every default written out."""
    return scenario.to_toml()


def _defense(settings: Settings) -> list[dict[str, Any]]:
    """The chosen defense as a scenario's table; none where none is chosen."""
    offered = defense(settings.defense)
    if offered is None:
        return []
    strength = {} if offered.key is None else {offered.key: offered.value(settings.strength)}
    return [{"kind": offered.kind, **strength}]


def _watched(settings: Settings, base: OfferedScenario, crowd: Crowd) -> int:
    """Clients that are watched one by one; a single one where all that is left to see is the sum."""
    return 1 if crowd.defenses else min(settings.clients, int(base.changes.get("attacker.watch.clients", WATCHED)))
