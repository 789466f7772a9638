"""Writes the published JSON Schemas: one of scenarios, for editors, and one of results.json, for scripts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedinv.results.run import Results
from fedinv.scenario import descriptions, reading
from fedinv.storage import documents, files


def published() -> Mapping[Path, dict[str, Any]]:
    """The content of each published schema by the path of its file."""
    return {
        documents.SHIPPED / "scenario.schema.json": reading.json_schema(),
        documents.SHIPPED / "results.schema.json": descriptions.json_schema(Results),
    }


if __name__ == "__main__":
    for path, content in published().items():
        files.write(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
