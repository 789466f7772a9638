"""The short form of a table: its kind alone, where every other key has a default."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


def by_kind(kinds: Mapping[str, type[BaseModel]]) -> "ByKind":
    """The annotation of a field that takes a table or the table's kind as text."""
    return ByKind(tuple(kinds))


class ByKind:
    """Reads a text as the table of that kind with its defaults, in documents and in their JSON Schema."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The field's own schema behind the reading of its short form."""

        def read(value: Any) -> Any:
            return {"kind": value} if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either a kind, or the table."""
        return {"anyOf": [{"enum": list(self.kinds), "type": "string"}, handler(schema)]}
