"""A Flower app's folder: what its pyproject.toml says, and its two apps, loaded as `flwr run` does."""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedinv.errors import RequestError, nearest, plain
from fedinv.storage import documents, paths

Setting = bool | int | float | str
Config = dict[str, Setting]
"""Flower's run configuration, keys of tables dotted."""
Kind = TypeVar("Kind", ServerApp, ClientApp)

FILE = "pyproject.toml"
"""Name of the file that makes a folder a Flower app."""


@dataclass(frozen=True)
class AppFolder:
    """What an app's folder says of itself."""

    root: Path
    """The folder, absolute."""
    name: str
    """Name of the project."""
    server: str
    """Reference to the ServerApp, as module:attribute."""
    client: str
    """Reference to the ClientApp, as module:attribute."""
    config: Mapping[str, Setting]
    """The app's run configuration, overrides included."""


def read(folder: str | Path, overrides: Sequence[str] = ()) -> AppFolder:
    """Read an app's folder, with overrides of its run configuration as `flwr run --run-config` takes them.

    Raises RequestError for a folder that is no Flower app, and for an override that is no key of its configuration.
    """
    root = paths.given(folder).absolute()
    path = root / FILE
    if not path.is_file():
        raise RequestError(f"{root}: is no Flower app: it has no {FILE}; name the folder that flwr run is given")
    document = documents.read(path)
    app = _table(document, "tool", "flwr", "app")
    components = _table(app, "components")
    for key in ("serverapp", "clientapp"):
        if not re.fullmatch(r"[\w.]+:[\w.]+", str(components.get(key, ""))):
            raise RequestError(
                f'{path}: [tool.flwr.app.components] has no {key} = "module:app"; bring an app for an older Flower '
                "up to 1.41 first"
            )
    name = str(_table(document, "project").get("name") or root.name)
    config = _flat(path, _table(app, "config"))
    return AppFolder(
        root,
        re.sub(r"[^\w.-]+", "-", name),
        str(components["serverapp"]),
        str(components["clientapp"]),
        {**config, **_overridden(config, overrides)},
    )


@contextmanager
def loaded(app: AppFolder) -> Iterator[tuple[ServerApp, ClientApp]]:
    """The two apps, with the folder first on sys.path until the block ends, when its modules are forgotten again.

    Raises RequestError for an app that cannot be imported.
    """
    names = {reference.partition(":")[0].partition(".")[0] for reference in (app.server, app.client)}
    others = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in names}
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(app.root))
    importlib.invalidate_caches()
    try:
        yield _load(app, app.server, ServerApp), _load(app, app.client, ClientApp)
    finally:
        sys.path.remove(str(app.root))
        for name in [name for name, module in sys.modules.items() if _lies_in(module, app.root)]:
            del sys.modules[name]
        sys.modules.update(others)


def place(error: BaseException, root: Path) -> str:
    """Where in an app's own files an error was raised, as " (file.py, line 3)"; empty where in none of them."""
    found, trace = "", error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(root):
            found = f" ({path.relative_to(root)}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _load(app: AppFolder, reference: str, kind: type[Kind]) -> Kind:
    module, _, attributes = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # an app's module may do anything when it is imported
        raise RequestError(
            f"{app.root}: {module} cannot be imported: {type(error).__name__}: {plain(error)}{place(error, app.root)}"
            f"{_missing(error)}"
        ) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            names = [name for name, value in vars(found).items() if isinstance(value, kind)]
            raise RequestError(f"{app.root}: {module} has no {attribute!r}{nearest(attribute, names)}") from None
    if not isinstance(found, kind):
        raise RequestError(f"{app.root}: {reference} is no {kind.__name__} but {type(found).__name__}")
    return found


def _missing(error: BaseException) -> str:
    return "; install what the app needs into this environment first" if isinstance(error, ImportError) else ""


def _lies_in(module: ModuleType, root: Path) -> bool:
    spec = getattr(module, "__spec__", None)
    if not isinstance(spec, ModuleSpec):
        return False
    places = [
        spec.origin,
        *(spec.submodule_search_locations or ()),
    ]  # a folder without __init__.py has the latter alone
    return any(place is not None and Path(place).is_relative_to(root) for place in places)


def _table(document: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _flat(where: object, table: Mapping[str, Any], before: str = "") -> Config:
    flat: Config = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(where, value, f"{before}{key}.")
        elif isinstance(value, bool | int | float | str):
            flat[before + key] = value
        else:
            raise RequestError(f"{where}: {before}{key}: must be a number, a text, true or false")
    return flat


def _overridden(config: Mapping[str, Setting], overrides: Sequence[str]) -> Config:
    changed: Config = {}
    for text in overrides:
        where = f"--run-config {plain(text)}"
        is_file = text.endswith(".toml")
        table = documents.read(paths.given(text)) if is_file else _said(text, where)
        changed |= _flat(where, table)
    for key in changed:
        if key not in config:
            raise RequestError(f"--run-config: the app has no setting {key!r}{nearest(key, config)}")
    return changed


def _said(text: str, where: str) -> Mapping[str, Any]:
    try:
        return documents.loads(_lines(text), where)
    except RequestError as error:
        raise RequestError(f"{error}: write key=value, texts in double quotes, as 'lr=0.1 name=\"a b\"'") from None


def _lines(text: str) -> str:
    """Settings in one line as TOML, which wants one a line: 'lr=0.1 name="a b"' has two."""
    return text if " = " in text else "\n".join(re.findall(r"""(?:[^\s"']|"[^"]*"|'[^']*')+|["'].*""", text))
