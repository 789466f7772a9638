"""The wall at run time: while an attack runs, it can import of fedinv only what every participant may know.

import-linter checks the same wall in the source; this one also holds for attacks of other packages. It is an
allow-list: a new module is hidden until it is named here. It protects against accident, not against malice: it keeps
an attack from reaching the truth by mistake or by plain imports, and is no sandbox. Code that walks the stack's frames,
functions' globals or the garbage collector, or reads the run's folder from the disk, still finds everything, which
Python cannot prevent. What clients drew is hidden apart: it follows from the run's secret, which no attack is given.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from fedinv.attack import Attack
from fedinv.errors import RunError
from fedinv.plugins import modules, packages

ALLOWED = ("attack", "defense_terms", "errors", "privacy", "results", "strict", "task")
"""Modules and folders of fedinv that an attack may import: known to both sides of a federation, without records."""
ATTACK_CODE = ("attacks", "countermeasures", "inference", "inversion")
"""Folders of server/ that an attack may import: the code of attacks, and nothing that runs the federation."""
_LIBRARIES = sys.stdlib_module_names | {"fedinv", "server", "numpy", "pydantic", "pydantic_core", "scipy", "torch"}
"""Top-level modules that `check_reach` skips: they refer to nothing of fedinv, or the wall itself hides it."""


class WallError(ImportError):
    """Raised when an attack imports what only clients and the judge may see."""


def is_visible(name: str) -> bool:
    """Whether a module, by its dotted name, can be imported while an attack runs.

    Modules of other packages can, except those that provide data sets or defenses.
    """
    return _is_visible(name, _other_sources(tuple(sys.path)))


@cache
def _is_visible(name: str, others: tuple[str, ...]) -> bool:
    """The same, where these modules of other packages provide data sets or defenses; asked of thousands of modules."""
    role, _, rest = name.removeprefix("fedinv._roles.").partition(".")
    if role == "server":
        return not rest or rest.partition(".")[0] in ATTACK_CODE
    if role == "clients":
        return False
    if name.startswith("fedinv."):
        return name == "fedinv._roles" or name.split(".")[1] in ALLOWED
    return not any(name == other or name.startswith(f"{other}.") for other in others)


class _Guard(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not is_visible(fullname):
            raise WallError(f"an attack may not import {fullname}: it is given an Observation and Knowledge only")
        return None


@contextmanager
def wall() -> Iterator[None]:
    """Hide every module that is not visible, even one imported before, until the block ends."""
    others = _other_sources(tuple(sys.path))
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if not _is_visible(name, others)}
    attributes = [
        (sys.modules[parent], child, module)
        for name, module in hidden.items()
        for parent, _, child in [name.rpartition(".")]
        if parent in sys.modules and getattr(sys.modules[parent], child, None) is module
    ]
    for parent_module, child, _ in attributes:
        delattr(parent_module, child)
    guard = _Guard()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)
        for parent_module, child, module in attributes:
            setattr(parent_module, child, module)
        sys.modules.update(hidden)


@lru_cache(maxsize=64)
def check_reach(attack: type[Attack]) -> None:
    """Raise RunError where the modules of another package's attack refer to something that the wall hides.

    They are the attack's own module and all modules that it refers to, except the standard library and numerical
    libraries. What they imported before the attack runs would otherwise stay within their reach. Attacks that are no
    plugins (of a script or a test) are not checked.
    """
    home = attack.__module__.partition(".")[0]
    if home not in packages("attacks"):
        return
    todo, done = [attack.__module__], set[str]()
    while todo:
        name = todo.pop()
        if name in done or name not in sys.modules:
            continue
        done.add(name)
        for value in vars(sys.modules[name]).values():
            origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            if not isinstance(origin, str):
                continue
            if not is_visible(origin):
                raise RunError(
                    f"attack {attack.model_fields['kind'].default}: its module {name} holds something of {origin}, "
                    f"which the wall hides: import no more of fedinv than {', '.join(ALLOWED)}, and keep data sets and "
                    "defenses in modules of their own"
                )
            if origin.partition(".")[0] not in _LIBRARIES:
                todo.append(origin)


@lru_cache(maxsize=4)
def _other_sources(path: tuple[str, ...]) -> tuple[str, ...]:
    """Modules of other packages on `path` that provide a data set or a defense by entry point."""
    return modules("datasets", "defenses")
