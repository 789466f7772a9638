"""The wall at run time: while an attack runs, nothing that can produce a client's record can be imported.

import-linter holds the same wall over the source; this holds it against attacks that come from elsewhere.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_FORBIDDEN = (
    "clients",
    "fedinv._roles.clients",
    "fedinv.data",
    "fedinv.engines",
    "fedinv.runs.evaluation",
    "fedinv.runs.inferring",
    "fedinv.judge",
    "fedinv.storage.documents",
    "fedinv.runs.run",
    "fedinv.data.batches",
    "fedinv.scenario",
)


class WallError(ImportError):
    """An attack reached for what only clients and the judge may see."""


class _Guard(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if _forbidden(fullname):
            raise WallError(f"an attack may not import {fullname}: it is given an Observation and Knowledge only")
        return None


@contextmanager
def wall() -> Iterator[None]:
    """Hide the forbidden modules, also those already imported, until the block ends."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _forbidden(name)}
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


def _forbidden(name: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in _FORBIDDEN)
