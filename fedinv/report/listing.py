"""Lists and explanations as lines of plain text, as wide as the terminal."""

import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedinv.scenario.explanation import Explanation


def listed(rows: Mapping[str, str]) -> str:
    """One line for each name with its summary; on a terminal a long summary is broken at words and indented."""
    width, across = max(map(len, rows), default=0) + 2, shutil.get_terminal_size().columns
    shown = [
        f"{name:{width}}{indented(summary, width, across) if sys.stdout.isatty() else summary}"
        for name, summary in rows.items()
    ]
    return "\n".join(shown)


def explained(found: "Explanation") -> str:
    """Lay out an explanation for the terminal: paragraphs, facts, and settings with type, bounds and default."""
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
    """The text broken at words, so that what begins at column `start` stays right of it."""
    return f"\n{' ' * start}".join(textwrap.wrap(text, max(across - start, 20), break_on_hyphens=False))
