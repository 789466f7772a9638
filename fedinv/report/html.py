"""Renders the templates in one environment, in which every value is escaped and none may be missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""Folder of the Jinja templates."""


def rendered(template: str, filters: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The text of a template of templates/, for example ``rendered("run.html.j2", {}, {"run": run})``.

    Values are escaped as HTML unless they are markupsafe.Markup. Raises jinja2.UndefinedError where the template asks
    for a value that is not among `values`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(template).render(**values)
