"""Scenario files: shipped ones by name, others by path, and ``dotted.key=value`` overrides of their keys."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedinv.errors import RequestError, nearest
from fedinv.storage.run_folder import RunFolder

_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = _PACKAGE / "_scenarios"
"""The folder of the scenarios that come with fedinv: inside the package in a wheel, beside it in a checkout."""
if not SHIPPED.is_dir():
    SHIPPED = _PACKAGE.parent / "scenarios"


def shipped() -> dict[str, Path]:
    """The files of the scenarios that come with fedinv, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def summaries() -> dict[str, str]:
    """One line on each shipped scenario, by name: the first comment line of its file."""
    return {name: path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ") for name, path in shipped().items()}


def document(name_or_path: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """Read a scenario's document by name or path and apply overrides. Returns it and the path of its file.

    The path of a run's folder stands for its scenario.toml. A relative data.path is resolved against the scenario
    file's folder. Raises RequestError for a scenario that does not exist, cannot be read or is not TOML, and for an
    override whose key leads into a list or a value.
    """
    path = _find(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: cannot be read ({error})") from None
    found = loads(text, str(path))
    for setting in overrides:
        override(found, setting)
    data = found.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        data["path"] = str((path.parent / Path(data["path"]).expanduser()).resolve())
    return found, path


def _find(name_or_path: str) -> Path:
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.is_dir() and RunFolder(path).scenario.is_file():
        return RunFolder(path).scenario
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name_or_path:
        raise RequestError(f"{path}: there is no such scenario file")
    raise RequestError(f"unknown scenario {name_or_path!r}{nearest(name_or_path, names)}; or give the path of a .toml")


def loads(text: str, where: str) -> dict[str, Any]:
    """Parse TOML. Raises RequestError naming `where` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{where}: not valid TOML: {error}") from None


def override(document: dict[str, Any], setting: str) -> None:
    """Apply ``dotted.key=value`` to a document in place; a value that is not TOML is taken as a string.

    Raises RequestError for a setting that is not of that form, or whose key leads into a value or beyond a list.
    """
    dotted, equals, value = setting.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise RequestError(f"--set {setting}: write dotted.key=value, for example --set training.lr=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    place: Any = document
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not key.isdecimal() or int(key) >= len(place):
                raise RequestError(
                    f"--set {setting}: {'.'.join(keys[:depth])} is a list of {len(place)}, "
                    f"so {key!r} must be a number below {len(place)}"
                )
            if last:
                place[int(key)] = parsed
            else:
                place = place[int(key)]
        elif isinstance(place, dict):
            if last:
                place[key] = parsed
            else:
                place = place.setdefault(key, {})
        else:
            raise RequestError(f"--set {setting}: {'.'.join(keys[:depth])} is a value, not a table")
