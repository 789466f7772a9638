"""The commands on Flower apps of one's own: `fedinv record` and `fedinv import`."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedinv import api
from fedinv.commands.options import ENGINE, OUTPUT, AsJson, examples, given, out_in, print_json
from fedinv.errors import RequestError

if TYPE_CHECKING:
    from fedinv.recording.folder import Recording


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        "record",
        epilog=examples(
            "fedinv record ./my-app --nodes 4",
            "fedinv record ./my-app --copy ./my-app-recorded --out runs/mine",
        ),
    )(record)
    app.command(
        "import",
        epilog=examples(
            "fedinv import sent.safetensors back0.npz back1.npz --out runs/mine",
            "fedinv import global.pt local.pt --records 32 --round 2 --out runs/mine",
        ),
    )(import_)


def record(
    app: Annotated[str, typer.Argument(metavar="APP", help="A Flower app's folder, as flwr run is given.")],
    nodes: Annotated[int, typer.Option(min=1, help="Clients, with partition-ids from 0.", rich_help_panel=ENGINE)] = 4,
    run_config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE...",
            help="Change the app's configuration, as 'num-server-rounds=2 lr=0.1'; or a .toml file; repeatable.",
            rich_help_panel="Record",
        ),
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run nothing: write a copy that records itself to --out, for flwr run on any engine.",
            rich_help_panel="Record",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, out_in("runs/APP-N", "The recording's folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a Flower app of your own in this process, unchanged, and record what crosses its wire."""
    import logging

    from fedinv.report.terminal import bars

    if copy is not None:
        if out is None or run_config:
            raise RequestError("--copy: name the recording's folder by --out; --run-config is for flwr run then")
        made = api.recorded_copy(app, copy, out=out)
        typer.echo(
            f"{made}: run it with flwr run; it records to {out / 'server'} and {out / 'clients'}. A SuperLink must "
            "find fedinv: start it with --disable-runtime-dependency-installation where fedinv is installed"
        )
        return
    logging.getLogger("flwr").setLevel(logging.WARNING)
    with bars(True) as steps, redirect_stdout(sys.stderr):
        found = api.record(app, nodes=nodes, out=out, run_config=run_config or [], tell=steps("recording"))
    _show(found, as_json, out)
    if all(one.error is not None for one in found.exchanges):
        raise SystemExit(1)


def import_(
    sent: Annotated[
        str, typer.Argument(metavar="SENT", help="Arrays that the server sent: .safetensors, .npz or .pt.")
    ],
    received: Annotated[
        list[str], typer.Argument(metavar="BACK...", help="Arrays that clients sent back, a file each.")
    ],
    out: Annotated[Path, typer.Option(help="The recording's folder; other rounds in it stay.", rich_help_panel=OUTPUT)],
    records: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Examples that each client reports.",
            rich_help_panel="Import",
            show_default="none are reported",
        ),
    ] = None,
    round_: Annotated[
        int, typer.Option("--round", min=1, help="The round that the files are of.", rich_help_panel="Import")
    ] = 1,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Which of the arrays sent a client's are, in its file's order.",
            rich_help_panel="Import",
            show_default="by name or shape",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a recording of files: what a server sent, and what clients sent back, all of it or a part alone."""
    listed = None if names is None else [name.strip() for name in names.split(",")]
    found = api.import_files(sent, received, out=out, round=round_, records=records, names=listed)
    _show(found, as_json, out)


def _show(found: "Recording", as_json: bool, out: Path | None) -> None:
    """Print what a recording holds."""
    folder = given(found.folder, out)
    if as_json:
        print_json({**counted(found), "reasons": reasons(found), "skipped": list(found.skipped), "recording": folder})
        return
    counts = counted(found)
    typer.echo(
        f"{folder}: {_of(counts['updates'], 'update')} of {_of(counts['clients'], 'client')} in "
        f"{_of(counts['rounds'], 'round')}; {_of(counts['messages'], 'message')}, {counts['errors']} of them without a "
        "reply that can be used"
    )
    from fedinv.recording.secure_sums import secure_sums

    sums, masked = secure_sums(found)
    if sums:
        typer.echo(f"  {_of(len(sums), 'sum')} behind SecAgg+ can be read, as fedinv read does, and no client's update")
    elif not counts["updates"]:
        typer.echo(f"  no update can be read: {'a secure aggregation masks them' if masked else 'no client sent one'}")
    for line in [*reasons(found), *found.skipped, *masked]:
        typer.echo(f"  {line}")


def counted(found: "Recording") -> dict[str, int]:
    """Counts of what a recording holds."""
    return {
        "updates": len(found.updates),
        "clients": len({one.node for one in found.exchanges}),
        "rounds": len({(one.run, one.round) for one in found.updates}),
        "messages": len(found.exchanges),
        "errors": sum(one.error is not None for one in found.exchanges),
    }


def reasons(found: "Recording") -> list[str]:
    """The first three different reasons why replies are missing."""
    return list(dict.fromkeys(one.error for one in found.exchanges if one.error is not None))[:3]


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
