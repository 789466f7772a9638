"""Shows docstrings as Markdown that were written to be read as text."""

import re
from typing import Any

import griffe

PROMPT = re.compile(r"^(?P<indent>[ ]*)>>> ")
"""Pattern of the first line of an example, as doctest reads it."""


class Docstrings(griffe.Extension):
    """Gives every docstring to the site as Markdown: examples and indented texts become blocks of code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Docstring with each example between fences, and without reStructuredText's double colon and double backticks."""
    text = re.sub(r"(?<!:)::[ ]*\n(?=\n[ ]{4})", ":\n", text)
    text = re.sub(r"``([^`\n]+)``", r"`\1`", text)
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if not fenced and PROMPT.match(line):
            lines += ["", "```pycon"]
            fenced = True
        elif fenced and not line.strip():
            lines.append("```")
            fenced = False
        lines.append(line)
    return "\n".join([*lines, "```"] if fenced else lines)
