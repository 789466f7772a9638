"""Scenario files: shipped ones by name, others by path, and ``dotted.key=value`` overrides of their keys."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedinv.errors import RequestError, nearest, plain
from fedinv.storage import paths
from fedinv.storage.run_folder import RunFolder

_PACKAGE = Path(__file__).resolve().parents[1]
LARGEST_BYTES = 5_000_000
"""Size up to which a file is read as a scenario."""
DEEPEST = 24
"""Tables and lists within one another that a scenario may have; its own keys need eight at most."""
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

    The path of a run's folder stands for its scenario.toml. Relative paths in it are resolved against the scenario
    file's folder. Raises RequestError for a scenario that does not exist, cannot be read or is not TOML, and for an
    override whose key leads into a list or a value.
    """
    path = find(name_or_path)
    found = read(path)
    for setting in overrides:
        override(found, setting)
    anchor(found, path.parent)
    return found, path


def read(path: Path) -> dict[str, Any]:
    """Parse a scenario's file. Raises RequestError for one that cannot be read or is not TOML, naming the line."""
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise RequestError(f"{path}: is no scenario: it has {size} bytes, and at most {LARGEST_BYTES} are read")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequestError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: cannot be read (it is no text in UTF-8: {error.reason})") from None
    return loads(text, str(path))


def anchor(document: dict[str, Any], folder: Path) -> None:
    """Resolve a document's relative data.path, data.dictionary and model.project against `folder`, in place."""
    for table, key in (("data", "path"), ("data", "dictionary"), ("model", "project")):
        found = document.get(table)
        if isinstance(found, dict) and isinstance(found.get(key), str):
            found[key] = str(paths.given(folder / paths.given(found[key])).resolve())


def find(name_or_path: str) -> Path:
    """The scenario file for a shipped scenario's name, a file's path or a run's folder.

    Raises RequestError naming the nearest name.
    """
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = paths.given(name_or_path)
    if path.is_dir() and RunFolder(path).scenario.is_file():
        return RunFolder(path).scenario
    if path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name_or_path:
        raise RequestError(f"{path}: there is no such scenario file")
    raise RequestError(
        f"unknown scenario {plain(name_or_path)!r}{nearest(name_or_path, names)}; or give the path of a .toml"
    )


def loads(text: str, where: str) -> dict[str, Any]:
    """Parse TOML. Raises RequestError naming `where` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{where}: not valid TOML: {plain(error)}{_escaped(text, str(error))}") from None
    except RecursionError:
        raise RequestError(f"{where}: tables or lists lie deeper in one another than {DEEPEST}") from None
    except ValueError:  # a whole number of thousands of digits
        raise RequestError(f"{where}: holds {TOO_LARGE}") from None


def _escaped(text: str, error: str) -> str:
    """What to write for a backslash in double quotes, which TOML reads as an escape: the path of a file on Windows."""
    found = re.search(r"at line (\d+)", error)
    if found is None or not re.search(r"escape|\\\\|hex", error, re.IGNORECASE):
        return ""
    line = text.splitlines()[int(found[1]) - 1]
    return ": write a path in single quotes, or with / for \\" if re.search(r'"[^"]*\\[^"]*"', line) else ""


TOO_LARGE = "a whole number beyond 64 bits: write one of at most 9223372036854775807"
"""What is said of a whole number that TOML does not hold."""


def check_values(document: Any) -> None:
    """Raise RequestError, naming the key, for a value that no scenario can hold.

    That is a whole number beyond 64 bits, text that is no Unicode (half of a pair, or a zero byte), or tables and lists
    deeper in one another than `DEEPEST`.
    """
    waiting: list[tuple[str, Any, int]] = [("", document, 0)]
    while waiting:
        key, value, depth = waiting.pop()
        if depth > DEEPEST:
            raise RequestError(f"{plain(key, 60)}: tables or lists lie deeper in one another than {DEEPEST}")
        if isinstance(value, Mapping):
            waiting += [(f"{key}.{name}" if key else str(name), one, depth + 1) for name, one in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{key}.{at}", one, depth + 1) for at, one in enumerate(value)]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise RequestError(f"{plain(key)}: is {TOO_LARGE}")
        elif isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise RequestError(f"{plain(key)}: holds a character that is none (a zero byte, or half of a pair)")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def override(document: dict[str, Any], setting: str) -> None:
    """Apply ``dotted.key=value`` to a document in place. Raises RequestError, see `parse_setting` and `change`."""
    change(document, *parse_setting(setting))


def parse_setting(setting: str) -> tuple[str, Any]:
    """Split ``dotted.key=value`` into key and value; a value that is not TOML is taken as a string.

    Raises RequestError for a text without a key or without "=".
    """
    key, equals, value = (part.strip() for part in setting.partition("="))
    if not equals or not all(key.split(".")):
        raise RequestError(f"setting {plain(setting)!r}: write dotted.key=value, for example training.lr=0.1")
    if key.count(".") > DEEPEST:
        raise RequestError(f"setting {plain(setting, 60)!r}: its key leads through more than {DEEPEST} tables")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
    except (RecursionError, ValueError):
        return key, loads(f"value = {value}", f"setting {plain(key)!r}")["value"]


def change(document: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at a dotted key in place; None removes the key, so that its default holds.

    A number in the key is a position in a list, as in ``attacks.0.iterations``. Raises RequestError for a key that
    leads through a value, or past the end of a list.
    """
    keys = key.split(".")
    place: Any = document
    for depth, step in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(place, list):
            if not step.isdecimal() or int(step) >= len(place):
                raise RequestError(
                    f"{key}: {'.'.join(keys[:depth])} is a list of {len(place)}, "
                    f"so {plain(step)!r} must be a number below {len(place)}"
                )
            if last:
                place[int(step)] = value
            else:
                place = place[int(step)]
        elif not isinstance(place, dict):
            raise RequestError(f"{key}: {'.'.join(keys[:depth])} is a value, not a table")
        elif not last:
            place = place.setdefault(step, {})
        elif value is None:
            place.pop(step, None)
        else:
            place[step] = value
