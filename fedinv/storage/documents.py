"""Scenario files: the shipped ones by name, others by path, and ``dotted.key=value`` changes to them."""

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
    """The scenarios that come with fedinv, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def summaries() -> dict[str, str]:
    """What each shipped scenario is about: the first comment line of its file."""
    return {name: path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ") for name, path in shipped().items()}


def document(name_or_path: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Path]:
    """Read a scenario's document and apply overrides. Returns it with its file.

    A relative data.path is taken from the scenario file's folder. Raises RequestError for a scenario that is not
    there, not readable or not TOML, and for an override that fits nowhere.
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
    """Apply ``dotted.key=value`` in place; the value is TOML, or a bare word."""
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
