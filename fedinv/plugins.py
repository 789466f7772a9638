"""Finds attacks, defenses, data sets, deviations and detectors: each built-in one is a file named after its kind.

Listing reads the built-in files' docstrings and imports none of them; loading imports the one that is asked for.
Plugins of others come by the entry point groups ``fedinv.attacks`` and the like, named after the group. One
that cannot be loaded is listed with its reason, and is an error only where it is asked for.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from pydantic import BaseModel

from fedinv import roles
from fedinv.blame import file_of, one_line, place
from fedinv.errors import RequestError, nearest

Group = Literal["attacks", "defenses", "datasets", "deviations", "detectors"]
GROUPS: tuple[Group, ...] = get_args(Group)

_BASES: Mapping[Group, tuple[str, str]] = {
    "attacks": ("fedinv.attack", "Attack"),
    "defenses": ("fedinv.defense", "Defense"),
    "datasets": ("fedinv.data.dataset", "Dataset"),
    "deviations": ("fedinv.deviation", "Deviation"),
    "detectors": ("fedinv.detector", "Detector"),
}
"""Module and name of the class that each plugin of a group derives from; imported when a plugin is loaded."""
_HOMES: Mapping[Group, tuple[Literal["server", "clients"] | None, str]] = {
    "attacks": ("server", "attacks"),
    "defenses": ("clients", "defenses"),
    "datasets": (None, "data/sources"),
    "deviations": ("server", "malicious"),
    "detectors": ("clients", "vetting"),
}
"""Role and folder of each group's built-in files; without a role a folder of this package."""


@dataclass(frozen=True)
class Plugin:
    """A plugin that can be loaded: its name, and where it comes from."""

    group: Group
    kind: str
    """Name that selects it in a scenario."""
    origin: Path | EntryPoint
    """The built-in file, or the entry point of another package."""
    rivals: tuple[EntryPoint, ...] = ()
    """Entry points of other packages with the same name. A built-in file is used whatever they are; of two packages
    neither is."""

    @property
    def summary(self) -> str:
        """The first sentence of the plugin's file, or its package; the reason where it cannot be loaded."""
        fault = self.fault
        if fault is not None:
            return f"cannot be loaded: {fault}"
        return _first_line(self.origin) if isinstance(self.origin, Path) else f"from {_owner(self.origin)}"

    @property
    def fault(self) -> str | None:
        """The reason why the plugin cannot be loaded, with file and line; None where it can.

        A built-in file is read and not imported; the module behind an entry point is imported.
        """
        if isinstance(self.origin, Path):
            return _file_fault(self)
        try:
            _load(self)
        except RequestError as error:
            return str(error)
        return None


def available(group: Group) -> Mapping[str, Plugin]:
    """Every plugin of a group by its kind, sorted, those that cannot be loaded among them. Nothing is imported."""
    found: dict[str, Plugin] = {}
    for path in _folder(group).rglob("[!_]*.py"):
        kind = path.stem.replace("_", "-")
        found[kind] = Plugin(group, kind, path)
    for entry in sorted(_offered(group), key=lambda entry: (_owner(entry), entry.value)):
        first = found.get(entry.name)
        if first is None:
            found[entry.name] = Plugin(group, entry.name, entry)
        else:
            found[entry.name] = Plugin(group, entry.name, first.origin, (*first.rivals, entry))
    return dict(sorted(found.items()))


def modules(*groups: Group) -> tuple[str, ...]:
    """Modules of other packages that offer plugins of these groups by entry point."""
    return tuple(entry.module for group in groups for entry in _offered(group))


def packages(*groups: Group) -> frozenset[str]:
    """Names of the other packages that offer plugins of these groups."""
    return frozenset(name.partition(".")[0] for name in modules(*groups))


def _offered(group: Group) -> EntryPoints:
    """What other packages offer, read anew where a folder that modules are imported from has changed."""
    stamps = [Path(folder or ".").stat().st_mtime_ns if Path(folder or ".").is_dir() else 0 for folder in sys.path]
    return _entry_points(tuple(sys.path), tuple(stamps))[group]


@lru_cache(maxsize=4)
def _entry_points(folders: tuple[str, ...], stamps: tuple[int, ...]) -> Mapping[Group, EntryPoints]:
    """The entry points of what is installed in these folders, last changed at these times, by group."""
    found = entry_points()  # reads the files of every package, whatever group is asked for
    return {group: found.select(group=f"fedinv.{group}") for group in GROUPS}


def listing(group: Group) -> dict[str, str]:
    """What `fedinv list` shows: the summary of each plugin by its kind, and of entry points in a built-in one's way."""
    rows: dict[str, str] = {}
    for kind, plugin in available(group).items():
        rows[kind] = plugin.summary
        if isinstance(plugin.origin, Path):
            for rival in plugin.rivals:
                rows[f"{kind} ({_owner(rival)})"] = (
                    f"cannot be loaded: {kind!r} is built in; give the entry point of {_owner(rival)} another name"
                )
    return rows


def instead(group: Group, kind: str) -> str:
    """What to write instead of a kind that is unknown, as a phrase in brackets: what papers call so, or the nearest.

    Imports every plugin of the group, and leaves out what cannot be loaded.
    """
    asked, known = kind.lower().replace("_", "-").replace(" ", "-"), available(group)
    for plugin in known.values():
        with suppress(RequestError):
            names = getattr(_load(plugin), "known_as", {})
            if asked in names:
                return f" (that is {names[asked]})"
    return nearest(kind, known)


def loaded(group: Group) -> dict[str, Any]:
    """Every plugin's class of a group by its kind, sorted. Imports all.

    One of another package that cannot be loaded is left out, as it is no reason to do without the others. Raises
    RequestError for a built-in one: a comparison without it would look complete.
    """
    found: dict[str, Any] = {}
    for kind, plugin in available(group).items():
        with suppress(RequestError) if isinstance(plugin.origin, EntryPoint) else nullcontext():
            found[kind] = _load(plugin)
    return found


def load(group: Group, kind: str) -> type[BaseModel]:
    """Import a plugin's class.

    Raises RequestError for an unknown kind, naming the nearest, and for one that cannot be loaded, naming its file.
    """
    known = available(group)
    name = f"{group.removesuffix('s')} {kind!r}"
    if kind not in known:
        raise RequestError(f"unknown {name}{instead(group, kind)}")
    try:
        return _load(known[kind])
    except RequestError as error:
        raise RequestError(f"{name} cannot be loaded: {error}") from error


def _load(plugin: Plugin) -> type[BaseModel]:
    """The plugin's class, checked. Raises RequestError with the reason, file and line where there is none."""
    group, kind, origin = plugin.group, plugin.kind, plugin.origin
    if isinstance(origin, EntryPoint):
        if plugin.rivals:
            owners = " and ".join(map(_owner, (origin, *plugin.rivals)))
            raise RequestError(f"{owners} both offer it: uninstall one of them")
        return _checked(_imported(plugin), plugin)
    module: Any = _imported(plugin)
    for _, candidate in inspect.getmembers(module, inspect.isclass):
        if candidate.__module__ == module.__name__ and kind in _kinds(candidate, group):
            return _checked(candidate, plugin)
    raise RequestError(f"{_no_class(plugin)} ({place(origin)})")


def _imported(plugin: Plugin) -> object:
    origin = plugin.origin
    try:
        return origin.load() if isinstance(origin, EntryPoint) else _import(plugin.group, origin)
    except (Exception, SystemExit) as error:
        places = [place(file, error) for file in ([origin] if isinstance(origin, Path) else _sources(origin))]
        if isinstance(origin, EntryPoint):
            places.append(f"{origin.value} of {_owner(origin)}")
        where = next((found for found in places if found.rpartition(":")[2].isdecimal()), places[0])
        raise RequestError(f"{one_line(error)} ({where})") from error


def _checked(found: object, plugin: Plugin) -> type[BaseModel]:
    """The class, if it derives from the group's base and is of the plugin's kind. Raises RequestError where not."""
    module, name = _BASES[plugin.group]
    base: type[BaseModel] = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(found) and issubclass(found, base) and found is not base):
        origin = plugin.origin
        file = next(_sources(origin), None) if isinstance(origin, EntryPoint) else origin
        what = origin.value if isinstance(origin, EntryPoint) else getattr(found, "__name__", "")
        raise RequestError(f"{what} is no class derived from {module}.{name} ({place(file, otherwise=what)})")
    if plugin.kind not in _kinds(found, plugin.group):
        written = f"{_key(plugin.group)}: Literal[{plugin.kind!r}]"
        where = place(file_of(found), otherwise=found.__module__)
        raise RequestError(
            f"the entry point is called {plugin.kind!r}: {found.__name__} must write {written} ({where})"
        )
    return found


def _kinds(found: type, group: Group) -> tuple[object, ...]:
    """What a class's field `kind` (of a data set: `source`) may be; empty where it is no Literal."""
    field = found.model_fields.get(_key(group)) if issubclass(found, BaseModel) else None
    return () if field is None else tuple(getattr(field.annotation, "__args__", ()))


def _key(group: Group) -> str:
    return "source" if group == "datasets" else "kind"


def _no_class(plugin: Plugin) -> str:
    return f"it defines no class with {_key(plugin.group)}: Literal[{plugin.kind!r}]"


def _owner(entry: EntryPoint) -> str:
    """The package that an entry point belongs to."""
    return entry.dist.name if entry.dist else entry.module


def _sources(entry: EntryPoint) -> Iterator[Path]:
    """The file of an entry point's module, and the one of its package, as far as they are found."""
    for name in (entry.module, entry.module.split(".")[0]):
        spec = None
        with suppress(Exception, SystemExit):  # the package cannot be imported: its own name still finds its file
            spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin)


def _file_fault(plugin: Plugin) -> str | None:
    """What can be told of a built-in file without importing it: its syntax, what it imports, and its class."""
    path = plugin.origin
    assert isinstance(path, Path)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (SyntaxError, ValueError, OSError) as error:
        return f"{one_line(error)} ({place(path, error)})"
    for node in tree.body:
        for name in _roots(node):
            if importlib.util.find_spec(name) is None:
                return f"there is no module {name!r} ({place(path)}:{node.lineno})"
    written = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return None if plugin.kind in written else f"{_no_class(plugin)} ({place(path)})"


def _roots(node: ast.stmt) -> list[str]:
    """Top-level packages that a statement imports by absolute name."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level and node.module:
        return [node.module.split(".")[0]]
    return []


def _folder(group: Group) -> Path:
    """The folder of a group's built-in files, which may lie in folders of it: a family each."""
    role, name = _HOMES[group]
    return (roles.folder(role) if role else Path(__file__).parent) / name


def _import(group: Group, path: Path) -> ModuleType:
    name = ".".join(path.relative_to(_folder(group)).with_suffix("").parts)
    role, home = _HOMES[group]
    module = f"{home.replace('/', '.')}.{name}"
    return roles.load(role, module) if role else importlib.import_module(f"fedinv.{module}")


def _first_line(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.split("\n\n")[0].replace("\n", " ").strip()
