"""The commands on the updates of an app of one's own: `fedinv map`, `fedinv read` and `fedinv gate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedinv import api
from fedinv.commands.options import OUTPUT, AsJson, examples, print_json
from fedinv.commands.own_options import (
    Example,
    Knows,
    LossName,
    Network,
    OptimizerName,
    Project,
    Recording,
    Seconds,
    Train,
    TrainWith,
)
from fedinv.errors import RequestError
from fedinv.results.terms import Answer

if TYPE_CHECKING:
    from fedinv.results.app_verdict import AppVerdict


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    shown = "--network app.task:Net --app ./my-app"
    app.command("map", epilog=examples(f"fedinv map runs/mine {shown}", "fedinv map runs/hospital-1"))(map_)
    app.command(
        "read", epilog=examples(f"fedinv read runs/mine {shown}", "fedinv read runs/mine --network app.task:Net --json")
    )(read)
    app.command(
        "gate",
        epilog=examples(
            f"fedinv gate runs/mine {shown}", f"fedinv gate runs/mine {shown} --limit 0.01 --junit gate.xml"
        ),
    )(gate)


def map_(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A recording's or a run's folder.")],
    network: Network = None,
    app: Project = None,
    example: Example = None,
    update: Annotated[int, typer.Option(min=0, help="The update, in the order recorded.")] = 0,
    loss: LossName = None,
    optimizer: OptimizerName = None,
    train: Train = None,
    train_with: TrainWith = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page there.", rich_help_panel=OUTPUT, show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Map what an update tells, layer by layer: what feeds it, its rank, which attack applies and why others do not."""
    found = api.leak_map(
        run,
        network,
        project=app,
        example=example,
        update=update,
        loss=loss,
        optimizer=optimizer,
        train=train,
        train_with=train_with,
    )
    if html is not None:
        from fedinv.report import app_page

        app_page.write(html, app_page.Found(mapped=found))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from fedinv.report.leak_map_text import show_leak_map

    show_leak_map(found)


def read(
    recording: Recording,
    network: Network = None,
    app: Project = None,
    example: Example = None,
    knows: Knows = None,
    seconds: Seconds = 30.0,
    loss: LossName = None,
    optimizer: OptimizerName = None,
    train: Train = None,
    train_with: TrainWith = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The true records, .csv or .npz, or app.task:mine: which claims were right.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the claims, the verdict and a page, report.html.",
            rich_help_panel=OUTPUT,
            show_default="the recording's, without a page",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read what a server could off each recorded update, and keep what verifies itself without the truth."""
    known = {"network": network, "project": app, "example": example, "seconds": seconds, "knows": knows}
    training = {"loss": loss, "optimizer": optimizer, "train": train, "train_with": train_with}
    found = _verdict(recording, **known, **training, truth=truth, out=out)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from fedinv.report.app_verdict_text import show_verdict

    show_verdict(found)


def gate(
    recording: Recording,
    limit: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of an update's records that may be read off it.")
    ] = 0.0,
    unknown: Annotated[Answer, typer.Option(help="What is done with an update that no attack here reads.")] = "refuse",
    unfinished: Annotated[Answer, typer.Option(help="What is done with one when the time is over.")] = "refuse",
    network: Network = None,
    app: Project = None,
    example: Example = None,
    knows: Knows = None,
    seconds: Seconds = 30.0,
    loss: LossName = None,
    optimizer: OptimizerName = None,
    train: Train = None,
    train_with: TrainWith = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write JUnit XML there.", rich_help_panel=OUTPUT, show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fail, with exit code 1, where more than a share of any update's records can be read off it."""
    from fedinv.report.app_verdict_text import junit as document
    from fedinv.results.app_verdict import refusal
    from fedinv.results.terms import whose
    from fedinv.storage import files

    if junit is not None and junit.is_dir():  # before anything is attacked
        raise RequestError(f"--junit: {junit} is a folder, name a file")
    known = {"network": network, "project": app, "example": example, "seconds": seconds, "knows": knows}
    training = {"loss": loss, "optimizer": optimizer, "train": train, "train_with": train_with}
    found = _verdict(recording, **known, **training)
    refused = [(one, reason) for one in found.updates if (reason := refusal(one, limit, unknown, unfinished))]
    passed = bool(found.updates) and not refused
    if junit is not None:
        files.write(junit, document(found, refused))
    if as_json:
        print_json({**found.model_dump(mode="json"), "limit": limit, "passed": passed})
    else:
        for one, reason in refused:
            typer.echo(f"FAIL round {one.round}, {whose(one.client)}: {reason}")
        total = len(found.updates)
        typer.echo(f"{'pass' if passed else 'FAIL'}: {total - len(refused)} of {total} updates may leave")
        typer.echo(found.headline)
        for line in found.skipped:
            typer.echo(f"left out: {line}")
    raise SystemExit(0 if passed else 1)


def _verdict(recording: str, **options: Any) -> "AppVerdict":
    from fedinv.report.terminal import bars

    with bars(True) as steps:
        found: AppVerdict = api.attack_recording(recording, progress=steps("attacks"), **options)
    return found
