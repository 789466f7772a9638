"""The short form of one attack or defense: `top-k:keep=0.1` for the table {kind = "top-k", keep = 0.1}."""

from collections.abc import Mapping
from typing import Any, Literal

from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.storage.documents import override


def plugin(
    group: Literal["attacks", "defenses", "deviations", "detectors"],
    text: str,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The table of a plugin whose short form is `text`, such as `top-k:keep=0.1`.

    `own` are tables by kind, as a scenario has them, that are the starting point of a kind's settings. Raises
    RequestError for an unknown kind, naming the nearest, and for a setting without a value.
    """
    kind, *settings = text.strip().split(":")
    known = plugins.available(group)
    if kind not in known:
        one, other = group.removesuffix("s"), plugins.instead(group, kind)
        raise RequestError(f"{group} {text!r}: unknown {one} {kind!r}{other}")
    document: dict[str, Any] = {**(own or {}).get(kind, {}), "kind": kind}
    for setting in settings:
        if "=" not in setting:
            raise RequestError(f"{group} {text!r}: {setting!r} is no setting, write {kind}:key=value")
        override(document, setting)
    return document
