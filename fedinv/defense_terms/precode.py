"""PRECODE: the variational bottleneck that server and clients both put into the model."""

from collections.abc import Mapping
from typing import Any

from fedinv.task.networks.bottleneck import WIDTH


def model_keys(defense: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model has a bottleneck of the defense's width."""
    return {"bottleneck": defense.get("width", WIDTH)}
