"""Reads a scenario from TOML and checks every key of it.

The tables [data], [[defenses]], [[attacks]], [[server.deviations]] and [[vetting]] are discriminated unions over the
plugins; only the plugins that a scenario names are imported.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, ValidationError, create_model

from fedinv import plugins
from fedinv.blame import PluginError
from fedinv.errors import RequestError, plain
from fedinv.federation.agreement import Server
from fedinv.scenario import descriptions
from fedinv.scenario.mistakes import explain
from fedinv.scenario.scenario import Scenario
from fedinv.storage import documents

MOST = 100
"""Attacks, defenses, deviations and detectors that a scenario may list, of each."""
GROUPS: tuple[tuple[plugins.Group, str, str], ...] = (
    ("datasets", "data", "source"),
    ("defenses", "defenses", "kind"),
    ("attacks", "attacks", "kind"),
    ("deviations", "server.deviations", "kind"),
    ("detectors", "vetting", "kind"),
)
"""Each group of plugins, the table that names them, and the key of their kind."""


def read(name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a shipped scenario by name or any by path, with ``dotted.key=value`` overrides.

    Raises RequestError that names the file, the key and the nearest right spelling.
    """
    document, path = documents.document(name_or_path, overrides)
    return parse(document, str(path))


@lru_cache(maxsize=8)
def loads(text: str) -> Scenario:
    """Parse a scenario's TOML text, as Flower's run configuration carries it.

    Cached, as every message of a run asks for it again. Raises RequestError, one line, naming the key.
    """
    return parse(documents.loads(text, "scenario"), "scenario")


def parse(document: Mapping[str, Any], where: str) -> Scenario:
    """Check a scenario's document. Raises RequestError, one line, naming `where` and the key."""
    try:
        documents.check_values(document)
        model = _model(*_kinds(document))
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise RequestError(f"{where}: {explain(error, model, document)}") from None
    except PluginError as error:
        raise RequestError(f"{where}: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario over all plugins that can be loaded, every key described, for editors."""
    return descriptions.json_schema(_model(*(tuple(plugins.loaded(group)) for group, _, _ in GROUPS)))


@lru_cache(maxsize=32)
def _model(
    sources: tuple[str, ...],
    defenses: tuple[str, ...],
    attacks: tuple[str, ...],
    deviations: tuple[str, ...],
    detectors: tuple[str, ...],
) -> type[Scenario]:
    """A model of scenarios whose tables of plugins are unions of these only."""
    fields: dict[str, Any] = {"data": (_union("datasets", sources), ...)}
    if defenses:
        fields["defenses"] = (tuple[_union("defenses", defenses), ...], ())  # type: ignore[misc]
    if attacks:
        fields["attacks"] = (tuple[_union("attacks", attacks), ...], ())  # type: ignore[misc]
    if detectors:
        fields["vetting"] = (tuple[_union("detectors", detectors), ...], ())  # type: ignore[misc]
    if deviations:
        union: Any = (tuple[_union("deviations", deviations), ...], ())  # type: ignore[misc]
        server: Any = create_model("Server", __base__=Server, __doc__=Server.__doc__, deviations=union)
        fields["server"] = (server, Server())
    return create_model("Scenario", __base__=Scenario, __doc__=Scenario.__doc__, **fields)


def _union(group: plugins.Group, kinds: tuple[str, ...]) -> Any:
    classes: list[Any] = [plugins.load(group, kind) for kind in kinds]
    if len(classes) == 1:
        return classes[0]
    return Annotated[reduce(or_, classes), Field(discriminator="source" if group == "datasets" else "kind")]


def _kinds(document: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The plugins that a document names, each group of GROUPS sorted.

    Raises RequestError, one line, naming the key of a plugin that is missing or unknown.
    """
    found: list[tuple[str, ...]] = []
    for group, table, key in GROUPS:
        holder, _, last = table.rpartition(".")
        within = document.get(holder, {}) if holder else document
        entries = within.get(last, []) if isinstance(within, Mapping) else []
        if group == "datasets":
            if not isinstance(entries, Mapping):
                raise RequestError("data: is missing, write a table [data] with a source")
            entries = [entries]
        elif not isinstance(entries, Sequence) or isinstance(entries, str):
            raise RequestError(f"{table}: must be a list of tables, write [[{table}]]")
        if len(entries) > MOST:
            raise RequestError(f"{table}: lists {len(entries)}, and at most {MOST} are run")
        kinds: dict[str, None] = {}
        for index, entry in enumerate(entries):
            at = table if group == "datasets" else f"{table}.{index}"
            if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
                raise RequestError(f"{at}.{key}: is missing, write one of {', '.join(plugins.available(group))}")
            if entry[key] not in plugins.available(group):
                other = plugins.instead(group, entry[key])
                raise RequestError(f"{at}.{key}: unknown {key} {plain(entry[key])!r}{other}")
            kinds[entry[key]] = None
        found.append(tuple(sorted(kinds)))
    return tuple(found)
