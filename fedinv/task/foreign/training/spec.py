"""Reads what options name: `kind:key=value,key=value`, and keys with values alone."""

import json
import re
from collections.abc import Mapping
from typing import Any

from fedinv.errors import RequestError

BETWEEN = re.compile(r",(?![^\[]*\])")
"""The commas between keys, and not those of a list."""


def keys(text: str, option: str) -> dict[str, Any]:
    """The values by key of a text such as "lr=0.1,nesterov=true,class_weights=[1,2]"; empty for an empty text.

    Numbers, true, false, none and lists are read as such, all else is text. Raises RequestError that begins with the
    option's name for a part without a value.
    """
    found: dict[str, Any] = {}
    for part in BETWEEN.split(text) if text.strip() else ():
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise RequestError(f"{option}: {part.strip()!r} is no setting, write key=value, as lr=0.1")
        found[key.strip()] = _value(value.strip())
    return found


def table(given: str | Mapping[str, Any] | None, option: str) -> dict[str, Any]:
    """The values by key of such a text or of a mapping; empty for None."""
    return keys(given, option) if isinstance(given, str) else dict(given or {})


def _value(text: str) -> Any:
    try:
        return json.loads({"True": "true", "False": "false", "None": "null", "none": "null"}.get(text, text))
    except ValueError:
        return text
