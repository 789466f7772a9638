"""What commands share: panels of the help, options, and how results are printed."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ENGINE, OUTPUT, STUDY = "Engine", "Output", "Study"
"""Panels of a command's help; a command's own options stand in the panel named after it."""


def examples(*lines: str) -> str:
    """The last words of a command's help."""
    return "\n\n".join(("Examples:", *lines))


AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on stdout, all else on stderr.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]


def out_in(default: str, what: str = "The run's folder.") -> Any:
    """The option that names the folder."""
    return typer.Option(help=what, rich_help_panel=OUTPUT, show_default=default)


def given(folder: Path, out: Path | None) -> str:
    """The folder as it was given; one that was chosen as the user would type it."""
    return str(out) if out is not None else short(folder)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2))


def short(path: Path) -> str:
    """The path as the user would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
