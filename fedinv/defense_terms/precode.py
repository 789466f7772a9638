"""PRECODE's terms: the variational bottleneck that server and clients both put into the model."""

from collections.abc import Mapping
from typing import Any

from fedinv.task.networks.bottleneck import WIDTH


def with_bottleneck(document: Any) -> Any:
    """A scenario's document with the bottleneck that its defense precode puts into the model, for both roles alike."""
    if not isinstance(document, Mapping) or not isinstance(document.get("defenses", ()), list | tuple):
        return document
    for defense in document.get("defenses", ()):
        if isinstance(defense, Mapping) and defense.get("kind") == "precode":
            model = document.get("model", {"kind": "mlp"})
            if isinstance(model, Mapping):
                return {**document, "model": {**model, "bottleneck": defense.get("width", WIDTH)}}
    return document
