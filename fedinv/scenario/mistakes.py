"""Turns pydantic's report of a faulty document into the one line that a user needs."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from fedinv.errors import nearest, plain
from fedinv.scenario.absent import absent

_SPELLED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_SPELLED |= str.maketrans({"æ": "ae", "ø": "o", "å": "a", "Æ": "Ae", "Ø": "O", "ł": "l", "Ł": "L"})


def explain(error: ValidationError, model: type[BaseModel], document: Mapping[str, Any]) -> str:
    """One line that names the first fault's key and the nearest right spelling, and counts the other faults."""
    faults = error.errors(include_url=False)
    first, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    keys = _path(first["loc"], document)
    place = plain(".".join(keys))
    if first["type"] == "extra_forbidden":
        said = absent(place)
        if said is not None:
            return f"{place}: is not there: {said}{more}"
        return f"{place}: unknown key{nearest(keys[-1], _siblings(model, document, keys[:-1]))}{more}"
    if first["type"] == "missing":
        return f"{place}: is missing{more}"
    if first["type"] == "union_tag_invalid":
        context = first["ctx"]
        key, expected = context["discriminator"].strip("'"), context["expected_tags"].replace("'", "").split(", ")
        said = absent(f"{place}.{key}", context["tag"])
        if isinstance(_at(document, keys), str):  # the short form, which names the kind alone
            if said is not None:
                return f"{place}: {shown(context['tag'])} is not there (known: {', '.join(expected)}): {said}{more}"
            return f"{place}: unknown {shown(context['tag'])}{nearest(str(context['tag']), expected)}{more}"
        if said is not None:
            return f"{place}.{key}: {shown(context['tag'])} is not there (known: {', '.join(expected)}): {said}{more}"
        return f"{place}.{key}: unknown {key} {shown(context['tag'])}{nearest(str(context['tag']), expected)}{more}"
    if first["type"] == "union_tag_not_found":
        return f"{place}.{first['ctx']['discriminator'].strip(chr(39))}: is missing{more}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "literal_error":
        message = message.replace("Input should be", "must be")
        said = absent(place, first["input"])
        if said is not None:
            return f"{place}: {message}, {shown(first['input'])} is not there: {said}{more}"
        expected = str(first.get("ctx", {}).get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")
        message += f", not {shown(first['input'])}{nearest(str(first['input']), expected)}"
    elif first["type"] == "string_pattern_mismatch" and isinstance(first["input"], str):
        letters = first["input"][:200].translate(_SPELLED)
        bare = unicodedata.normalize("NFKD", letters).encode("ascii", "ignore").decode()
        wanted = re.sub(r"[^A-Za-z0-9._-]+", "-", bare).strip("._-")
        message = f"{shown(first['input'])} must be of letters without accents, digits, dots, dashes and underscores"
        message += ", and begin with a letter or digit"
        message += f": write {wanted!r}" if re.fullmatch(str(first["ctx"]["pattern"]), wanted) else ""
    elif first["type"] != "value_error":
        message = f"{message.replace('Input should', 'should')}, not {shown(first['input'])}"
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def shown(value: object) -> str:
    """A value as an error repeats it: on one line, and cut."""
    return plain(repr(value), 80)


def _path(loc: tuple[str | int, ...], document: Any) -> list[str]:
    """The keys that lead to a fault in the document: pydantic's location without the tags of unions."""
    keys: list[str] = []
    place = document
    for step in loc:
        if isinstance(place, Mapping) and step not in place and step in (place.get("kind"), place.get("source")):
            continue
        keys.append(str(step))
        if isinstance(place, Mapping):
            place = place.get(step)
        elif isinstance(place, Sequence) and isinstance(step, int) and step < len(place):
            place = place[step]
        else:
            place = None
    return keys


def _at(document: Any, keys: Sequence[str]) -> Any:
    """The value at these keys of a document; None where there is none."""
    for key in keys:
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, Sequence) and not isinstance(document, str) and key.isdecimal():
            document = document[int(key)] if int(key) < len(document) else None
        else:
            return None
    return document


def _siblings(model: type[BaseModel], document: Any, keys: Sequence[str]) -> set[str]:
    """The keys that are allowed in the table at `keys`, where an unknown one was found."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any], value: Any) -> dict[str, Any]:
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[1]], value)
        for options in (node.get("oneOf"), node.get("anyOf"), node.get("allOf")):
            mapping = node.get("discriminator", {}).get("mapping", {})
            tag = isinstance(value, Mapping) and (value.get("kind") or value.get("source"))
            if isinstance(tag, str) and tag in mapping:
                return resolve({"$ref": mapping[tag]}, value)
            if options:  # of a table or its short form, the table
                tables = [one for one in options if one.get("type") not in ("string", "null")]
                return resolve((tables or options)[0], value)
        return node

    node, place = resolve(schema, document), document
    for key in keys:
        place = place[int(key)] if isinstance(place, Sequence) else place.get(key)
        inner = node.get("items") if node.get("type") == "array" else node.get("properties", {}).get(key)
        node = resolve(inner or {}, place)
    return set(node.get("properties", {}))
