"""The command that pits a malicious server's deviations against clients' detectors: `fedinv duel`."""

from pathlib import Path
from typing import Annotated

import typer

from fedinv import api
from fedinv.commands.options import ENGINE, AsJson, examples, given, out_in, print_json, short
from fedinv.errors import Stopped

PANEL = "Duel"
"""Panel of the help that holds the command's own options."""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        "duel",
        epilog=examples(
            "fedinv duel hospital",
            "fedinv duel hospital-grid --deviations grid,fishing+freeze --detectors row-cosines,d-snr --seeds 20",
        ),
    )(duel)


def duel(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO", help="A shipped scenario (see: fedinv list scenarios), a .toml file, or a run's folder."
        ),
    ],
    deviations: Annotated[
        str,
        typer.Option(
            metavar="A,B:KEY=VALUE,A+B",
            help="Deviations, each a row (see: fedinv list deviations).",
            rich_help_panel=PANEL,
            show_default="all",
        ),
    ] = "",
    detectors: Annotated[
        str,
        typer.Option(
            metavar="X,Y:KEY=VALUE",
            help="Detectors, each a column (see: fedinv list detectors).",
            rich_help_panel=PANEL,
            show_default="all",
        ),
    ] = "",
    seeds: Annotated[
        int, typer.Option(min=1, help="Honest trainings reported on; as many set thresholds.", rich_help_panel=PANEL)
    ] = 10,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Two seeds, no adaptive deviations.", rich_help_panel=PANEL, show_default=False),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key, as training.lr=0.1; repeatable.", rich_help_panel=PANEL
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that work at once.", rich_help_panel=ENGINE, show_default="one a core"),
    ] = None,
    out: Annotated[Path | None, out_in("runs/SCENARIO-duel-N", "The folder of its files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pit a malicious server against clients that vet weights: who sees what, and who gets past."""
    from fedinv.report.duel.text import show_duel

    try:
        found = api.duel(
            api.load(scenario, **api.changes(settings or [])),
            deviations=deviations.split(",") if deviations else None,
            detectors=detectors.split(",") if detectors else None,
            seeds=2 if quick else seeds,
            adaptive=not quick,
            out=out,
            jobs=jobs,
        )
    except Stopped:
        typer.echo("fedinv: stopped; the same command goes on where it was", err=True)
        raise SystemExit(1) from None
    if as_json:
        print_json({**found.results.model_dump(mode="json"), "folder": given(found.folder, out)})
        return
    show_duel(found.results)
    typer.echo(f"\nduel: {short(found.report)}")
