"""Finds attacks, defenses and data sets: each built-in one is a file in its group's folder, named after its kind.

Listing parses the files for their docstrings and imports none; loading imports the one that is asked for. Other
packages add theirs by the entry point groups ``fedinv.attacks``, ``fedinv.defenses`` and ``fedinv.datasets``.
"""

import ast
import importlib
import inspect
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel

from fedinv import roles
from fedinv.errors import RequestError, nearest

Group = Literal["attacks", "defenses", "datasets"]


@dataclass(frozen=True)
class Plugin:
    """A plugin that can be loaded: its name, and where it comes from."""

    kind: str
    """Name that selects it in a scenario."""
    origin: Path | EntryPoint
    """File of a built-in plugin, or the entry point of another package's."""

    @property
    def summary(self) -> str:
        """One line for a list: the first paragraph of its file's docstring, or the package that provides it."""
        if isinstance(self.origin, Path):
            return _first_line(self.origin)
        return f"from {self.origin.dist.name if self.origin.dist else self.origin.module}"


def available(group: Group) -> Mapping[str, Plugin]:
    """Every plugin of a group by its kind, sorted, without importing any; a built-in one wins over another's."""
    built_in = [
        Plugin(path.stem.replace("_", "-"), path)
        for path in _folder(group).glob("*.py")
        if not path.name.startswith("_")
    ]
    others = [Plugin(entry.name, entry) for entry in entry_points(group=f"fedinv.{group}")]
    return {plugin.kind: plugin for plugin in sorted([*others, *built_in], key=lambda p: p.kind)}


def load(group: Group, kind: str) -> type[BaseModel]:
    """Import a plugin's class.

    Raises RequestError for an unknown kind, naming the nearest, and for a plugin that holds no class of its kind.
    """
    known = available(group)
    if kind not in known:
        raise RequestError(f"unknown {group.removesuffix('s')} {kind!r}{nearest(kind, known)}")
    origin = known[kind].origin
    if isinstance(origin, EntryPoint):
        found = origin.load()
        if not (inspect.isclass(found) and issubclass(found, BaseModel)):
            raise RequestError(f"the entry point of {group} {kind!r} is no pydantic model")
        return found
    module = _import(group, origin.stem)
    key = "source" if group == "datasets" else "kind"
    for _, candidate in inspect.getmembers(module, inspect.isclass):
        if candidate.__module__ == module.__name__ and issubclass(candidate, BaseModel):
            field = candidate.model_fields.get(key)
            if field is not None and kind in getattr(field.annotation, "__args__", ()):
                return candidate
    raise RequestError(f"{origin} defines no class with {key}: Literal[{kind!r}]")


def loaded(group: Group) -> dict[str, Any]:
    """Every plugin's class of a group by its kind, sorted. Imports all.

    One of another package that cannot be imported is left out; a built-in one raises: it must not be missing unnoticed.
    """
    found: dict[str, Any] = {}
    for kind, plugin in available(group).items():
        with suppress(Exception) if isinstance(plugin.origin, EntryPoint) else nullcontext():
            found[kind] = load(group, kind)
    return found


def _folder(group: Group) -> Path:
    if group == "datasets":
        return Path(__file__).parent / "data" / "sources"
    return roles.folder("server") / "attacks" if group == "attacks" else roles.folder("clients") / "defenses"


def _import(group: Group, stem: str) -> ModuleType:
    if group == "datasets":
        return importlib.import_module(f"fedinv.data.sources.{stem}")
    if group == "attacks":
        return roles.load("server", f"attacks.{stem}")
    return roles.load("clients", f"defenses.{stem}")


def _first_line(path: Path) -> str:
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return doc.split("\n\n")[0].replace("\n", " ").strip()
