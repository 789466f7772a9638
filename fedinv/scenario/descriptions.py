"""Descriptions of a model's keys, read from the docstrings below its attributes when they are needed.

pydantic's `use_attribute_docstrings` reads the source of every class when it is defined, which would slow every run for
texts that only a JSON Schema and `fedinv explain` show.
"""

import ast
import inspect
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Description of each key of a model, on one line; keys without a docstring are missing.

    A key that a class declares anew without a docstring keeps that of the base class.
    """
    found: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            found |= _documented(owner)
    declared = {name: field.description for name, field in model.model_fields.items() if field.description}
    return {name: text for name, text in (found | declared).items() if name in model.model_fields}


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model in which every key has its description."""
    return model.model_json_schema(schema_generator=_Described)


class _Described(GenerateJsonSchema):
    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        for name, text in descriptions(schema["cls"]).items():
            if name in made.get("properties", {}):
                made["properties"][name] = {"description": text, **made["properties"][name]}
        return made


def _documented(owner: type) -> Mapping[str, str]:
    try:
        path = inspect.getsourcefile(owner)
    except TypeError:  # a class without a file, as of an interactive session
        return {}
    return _documented_in(Path(path)).get(owner.__qualname__, {}) if path else {}


@lru_cache(maxsize=256)
def _documented_in(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Docstrings of the attributes of each top-level class of a file, by class and attribute; none if unreadable."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    return {node.name: dict(_attributes(node)) for node in tree.body if isinstance(node, ast.ClassDef)}


def _attributes(node: ast.ClassDef) -> list[tuple[str, str]]:
    found = []
    for statement, following in pairwise(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            match following:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found.append((statement.target.id, " ".join(text.split())))
    return found
