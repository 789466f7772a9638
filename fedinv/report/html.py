"""Renders the templates in one environment, in which every value is escaped and none may be missing."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

TEMPLATES = Path(__file__).resolve().parent / "templates"
"""Folder of the Jinja templates."""
WRAP = Markup("<wbr>")
"""Place at which a browser may wrap a word."""


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
        bytecode_cache=_compiled(),
    )
    environment.filters |= filters
    return environment.get_template(template).render(**values)


def breakable(name: str) -> Markup:
    """A name, escaped, that may wrap after an underscore, a colon and a plus sign."""
    text = escape(name)
    for mark in "_:+":
        text = text.replace(mark, mark + WRAP)
    return text


class _Compiled(BytecodeCache):
    """Compiled templates by name and content, as compiling one takes longer than rendering it."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Fill the bucket where its template was compiled before and has not changed since."""
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the bucket's compiled template."""
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


@lru_cache(maxsize=1)
def _compiled() -> _Compiled:
    """The templates that this process has compiled so far."""
    return _Compiled()
