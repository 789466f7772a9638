"""What the two sides of one defense must agree on: one file a defense, named after its kind.

A file may define ``model_keys(defense)``, which returns the keys of the scenario's [model] that the defense sets; it is
given the table that the scenario writes of the defense. Server and clients then build the same network, and neither
names the defense.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from fedinv.task.models import DEFAULT


def model_keys(defense: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of [model] that a defense sets, with their values; empty for a defense that leaves the model alone."""
    name = str(defense.get("kind")).replace("-", "_")
    if name not in {module.name for module in iter_modules(__path__)}:
        return {}
    hook = getattr(import_module(f"{__name__}.{name}"), "model_keys", None)
    return {} if hook is None else hook(defense)


def with_model_keys(document: Any) -> Any:
    """A scenario's document with the keys of [model] that its defenses set.

    What is no scenario is returned as it is, for its checks to complain of.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("defenses", ()), list | tuple):
        return document
    keys: dict[str, Any] = {}
    for defense in document.get("defenses", ()):
        if isinstance(defense, Mapping):
            keys |= model_keys(defense)
    model = document.get("model", {"kind": DEFAULT.kind})
    return {**document, "model": {**model, **keys}} if keys and isinstance(model, Mapping) else document
