from typing import Literal

import pytest
from pydantic import BaseModel, Field

from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.comparison import Comparison
from fedinv.results.run import Results
from fedinv.scenario import reading
from fedinv.scenario.descriptions import descriptions, json_schema

PENDING: set[str] = set()
"""Definitions of the scenario's schema whose keys are not described yet."""


def _undescribed(schema):
    """Keys whose description is missing or no sentence, as "Definition.key"."""
    tables = {schema["title"]: schema, **schema.get("$defs", {})}
    for title in tables.keys() - PENDING:
        for key, node in tables[title].get("properties", {}).items():
            said = node.get("description", "")
            if len(said.split()) < 3 or not said[0].isupper() or not said.endswith("."):
                yield f"{title}.{key}: {said!r}"


def test_every_key_of_a_scenario_is_described_in_a_sentence():
    schema = reading.json_schema()
    keys = sum(len(table.get("properties", {})) for table in [schema, *schema["$defs"].values()])
    assert keys > 200
    assert list(_undescribed(schema)) == []


@pytest.mark.parametrize("model", [Results, Comparison, Audit, Assessment])
def test_every_key_of_an_outcome_is_described_in_a_sentence(model):
    assert list(_undescribed(json_schema(model))) == []


class _Base(BaseModel):
    kind: str
    """Selects the kind
    of the table."""
    clip: float = 1.0
    """Norm of the base."""


class _Plugin(_Base):
    kind: Literal["plugin"] = "plugin"
    clip: float = 2.0
    """Norm of the plugin."""
    bare: int = 0
    written: int = Field(default=0, description="Written in the field.")
    """Written below it."""
    _private: int = 0
    """Private attribute."""


def test_a_key_has_the_nearest_docstring_and_what_its_field_says_goes_before():
    assert descriptions(_Plugin) == {
        "kind": "Selects the kind of the table.",
        "clip": "Norm of the plugin.",
        "written": "Written in the field.",
    }


def test_a_class_without_a_file_has_no_descriptions_and_still_a_schema():
    space = {"__name__": "nowhere", "BaseModel": BaseModel}
    exec('class Made(BaseModel):\n    key: int\n    """Key of it."""\n', space)
    assert descriptions(space["Made"]) == {}
    assert json_schema(space["Made"])["properties"]["key"]["type"] == "integer"


def test_a_reference_to_a_table_keeps_the_key_s_own_description():
    node = reading.json_schema()["properties"]["federation"]
    assert node["$ref"] == "#/$defs/Federation"
    assert node["description"].startswith(descriptions(reading.Scenario)["federation"])
