"""The short form of an attack or a defense: `top-k:keep=0.1` for the table {kind = "top-k", keep = 0.1}."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.scenario.mistakes import explain
from fedinv.storage.documents import override

Group = Literal["attacks", "defenses", "deviations", "detectors"]


def made(group: Group, table: Mapping[str, Any]) -> Any:
    """The plugin that a table declares, `kind` among its keys.

    Raises RequestError naming the nearest right kind, or the setting that is wrong.
    """
    one, kind = group.removesuffix("s"), table.get("kind")
    if not isinstance(kind, str):
        raise RequestError(f"{one}: has no kind, write {{'kind': ...}}, one of {', '.join(plugins.available(group))}")
    model = plugins.load(group, kind)
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        raise RequestError(f"{one} {kind}: {explain(error, model, dict(table))}") from None


def plugin(
    group: Group,
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
