"""The command on records of one's own: `fedinv probe`."""

from pathlib import Path
from typing import Annotated

import typer

from fedinv import api
from fedinv.commands.options import OUTPUT, AsJson, examples, print_json
from fedinv.commands.own_options import Example, LossName, Network, OptimizerName, Project, Train, TrainWith


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    given = "--records mine.csv --others others.csv"
    app.command(
        "probe",
        epilog=examples(
            f"fedinv probe runs/mine {given} --network app.task:Net --app ./my-app",
            f"fedinv probe runs/hospital-1 {given}",
        ),
    )(probe)


def probe(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A recording's or a run's folder.")],
    others: Annotated[
        list[str],
        typer.Option(
            metavar="FILE", help="Records of the same kind, surely not trained on; repeatable.", show_default=False
        ),
    ],
    records: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Your records, .csv or .npz, or app.task:mine.", show_default=False),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="In place of them, what was trained on, by update: gives the TPR.", show_default=False
        ),
    ] = None,
    members: Annotated[
        bool,
        typer.Option("--members", help="Yours are known to be in the update: gives the TPR.", show_default=False),
    ] = False,
    update: Annotated[
        int | None, typer.Option(min=0, help="The update, in the order recorded.", show_default="all")
    ] = None,
    network: Network = None,
    app: Project = None,
    example: Example = None,
    loss: LossName = None,
    optimizer: OptimizerName = None,
    train: Train = None,
    train_with: TrainWith = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for probe.json, probe.csv and a page, report.html.",
            rich_help_panel=OUTPUT,
            show_default="the run's, without a page",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask whether records of yours were trained on, by the updates alone, against records that surely were not."""
    from fedinv.report.terminal import bars

    with bars(True) as steps:
        found = api.probe(
            run,
            network,
            records=records,
            others=others,
            truth=truth,
            members=members,
            update=update,
            project=app,
            example=example,
            out=out,
            progress=steps("updates"),
            loss=loss,
            optimizer=optimizer,
            train=train,
            train_with=train_with,
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from fedinv.report.probe_text import show_probe

    show_probe(found)
