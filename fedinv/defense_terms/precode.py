"""PRECODE: the variational bottleneck that server and clients both put into the model."""

from collections.abc import Mapping
from typing import Any

from fedinv.task.networks.bottleneck import WIDTH


def with_bottleneck(document: Any) -> Any:
    """Return a scenario's document with `model.bottleneck` set to the width of its defense precode, if it has one."""
    if not isinstance(document, Mapping) or not isinstance(document.get("defenses", ()), list | tuple):
        return document
    for defense in document.get("defenses", ()):
        if isinstance(defense, Mapping) and defense.get("kind") == "precode":
            model = document.get("model", {"kind": "mlp"})
            if isinstance(model, Mapping):
                return {**document, "model": {**model, "bottleneck": defense.get("width", WIDTH)}}
    return document
