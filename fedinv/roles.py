"""Finds the two roles, `clients` and `server`, which are loaded by reference and never imported by name.

In a checkout and in Flower's app bundle they lie beside `fedinv`; in an installed wheel inside it, as
``fedinv._roles``, so that no top-level `clients` or `server` enters site-packages.
"""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Literal

from fedinv.errors import RunError

Role = Literal["clients", "server"]

_HOME = Path(__file__).resolve().parent


def folder(role: Role) -> Path:
    """Folder of the role's code. Raises RunError if it is neither in the package nor beside it."""
    for place in (_HOME / "_roles" / role, _HOME.parent / role):
        if (place / "app.py").is_file():
            return place
    raise RunError(f"the {role} code is missing beside {_HOME}: reinstall fedinv")


def load(role: Role, module: str) -> ModuleType:
    """Import a module of a role, e.g. ``load("server", "attacks.exact")``.

    Raises RunError if Python finds another package of that name first, so that a foreign `server` never runs as ours.
    """
    home = folder(role)
    package = f"fedinv._roles.{role}" if home.parent.name == "_roles" else role
    loaded = importlib.import_module(f"{package}.{module}")
    found = Path(loaded.__file__ or "").resolve()
    if not found.is_relative_to(home):
        raise RunError(
            f"Python finds {found} instead of fedinv's own {role}/: remove the other package named {role!r} "
            f"or start from another folder"
        )
    return loaded
