"""The command that serves a page to try settings on: `fedinv lab`."""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from fedinv.commands.options import examples

PANEL = "Lab"
"""Panel of the help that holds the command's own options."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("lab", epilog=examples("fedinv lab", "fedinv lab --port 8000 --no-browser"))(lab)


def lab(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1.", rich_help_panel=PANEL, show_default="free")
    ] = 0,
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser",
            help="Open a browser, or only print the address.",
            rich_help_panel=PANEL,
            show_default=False,
        ),
    ] = True,
) -> None:
    """Serve a page on this machine: choose a setting, and see at once what the server learns."""
    from fedinv.lab.serving import serve

    with suppress(KeyboardInterrupt):
        serve(port, browser, lambda address: typer.echo(f"the lab is at {address} (Ctrl-C ends it)"))
    sys.stdout.flush()
    os._exit(0)  # marimo's threads wait for pages that are still open; all that the lab wrote is gone by now
