"""Lists and explanations as lines of plain text, as wide as the terminal."""

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedinv.scenario.explanation import Explanation


def listed(rows: Mapping[str, str]) -> str:
    """A list of names with their summaries, one a line; on a terminal long summaries are wrapped and indented."""
    width, across = max(map(len, rows), default=0) + 2, shutil.get_terminal_size().columns
    shown = [
        f"{name:{width}}{indented(summary, width, across) if sys.stdout.isatty() else summary}"
        for name, summary in rows.items()
    ]
    return "\n".join(shown)


def explained(found: "Explanation") -> str:
    """An explanation as lines: its paragraphs, its facts, and its settings with their type, bounds and default."""
    across = min(shutil.get_terminal_size().columns, 100)
    parts = [f"{found.name}: {found.what}"]
    for paragraph in found.text:  # a drawing keeps its lines
        parts.append(paragraph if paragraph.startswith(" ") else textwrap.fill(paragraph, across))
    if found.facts:
        wide = max(len(fact.name) for fact in found.facts) + 2
        parts.append("\n".join(f"{fact.name:{wide}}{indented(fact.says, wide, across)}" for fact in found.facts))
    for setting in found.settings:
        default = f", {setting.default} by default" if setting.default is not None else ", must be given"
        line = textwrap.fill(f"{setting.name}: {setting.form}{default}", across, subsequent_indent="    ")
        parts.append(line + ("\n    " + indented(setting.says, 4, across) if setting.says else ""))
    return "\n\n".join(parts)


def indented(text: str, start: int, across: int) -> str:
    """The text wrapped at words, its second and later lines indented to column `start`."""
    return f"\n{' ' * start}".join(textwrap.wrap(text, max(across - start, 20), break_on_hyphens=False))
