"""The command line: each command calls one function of fedinv/api.py. Results go to stdout, all else to stderr.

Nothing heavy is imported before it is needed, so that help and mistakes are answered at once.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fedinv import api
from fedinv.commands import duel, lab, own_app, own_records, recording
from fedinv.commands.options import ENGINE, OUTPUT, AsJson, examples, given, out_in, print_json, short
from fedinv.errors import RequestError, RunError, Stopped, plain
from fedinv.version import __version__

app = typer.Typer(
    name="fedinv",
    help="What would the server of a federation learn about whom, and what does each defense buy at what cost?",
    epilog="Examples:\n\nfedinv run hospital\n\nfedinv compare hospital --defenses top-k,dp-sgd:epsilon=8",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def names(group: api.Group) -> Callable[[str], list[str]]:
    """Completes a name of a group in the shell."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in api.available(group) if name.startswith(incomplete)]

    return complete


SCENARIO_HELP = "A shipped scenario (see: fedinv list scenarios), a .toml file, or a run's folder."
Scenario = Annotated[str, typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP, autocompletion=names("scenarios"))]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="A finished run's folder, such as runs/hospital-1.")]


def settings_in(panel: str) -> Any:
    """The option that changes the scenario's keys."""
    return typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, as training.lr=0.1; repeatable.", rich_help_panel=panel
    )


def attacks_in(panel: str, whom: str) -> Any:
    """The option that names the attacks of a study; `whom` says what they are run against."""
    return typer.Option(
        metavar="X,Y:KEY=VALUE",
        help=f"Attacks that {whom} beside the quick ones; all: every one in full.",
        rich_help_panel=panel,
        show_default="the scenario's",
    )


def only_in(panel: str) -> Any:
    """The option that leaves out the attacks that are not named."""
    return typer.Option("--only", help="Only the attacks named.", rich_help_panel=panel, show_default=False)


Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Processes that work at once.", rich_help_panel=ENGINE, show_default="one a core"),
]


LONGEST_MESSAGE = 2000
"""Characters of an error up to which it is printed whole."""


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"fedinv {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What would the server of a federation learn about whom, and what does each defense buy at what cost?"""


@app.command(
    epilog=examples(
        "fedinv run hospital", "fedinv run hospital --defense dp-sgd:epsilon=8 --attack exact --out runs/dp"
    )
)
def run(
    scenario: Scenario,
    settings: Annotated[list[str] | None, settings_in("Run")] = None,
    defense: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:KEY=VALUE",
            help="Defenses instead of the scenario's, in this order: top-k, dp-sgd:epsilon=8 or top-k+masking; "
            "none for none; repeatable.",
            rich_help_panel="Run",
            autocompletion=names("defenses"),
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:KEY=VALUE",
            help="Attacks instead of the scenario's: exact or gradient-matching:restarts=4; repeatable.",
            rich_help_panel="Run",
            autocompletion=names("attacks"),
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where it runs: inline, ray or deployment.", rich_help_panel=ENGINE)
    ] = "inline",
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="ray: a cluster that is there.",
            rich_help_panel=ENGINE,
            show_default="Ray is started here",
        ),
    ] = None,
    client_cpus: Annotated[
        int, typer.Option(min=1, help="ray: CPUs for each client that trains.", rich_help_panel=ENGINE)
    ] = 1,
    client_gpus: Annotated[
        float, typer.Option(min=0, help="ray: GPUs for each client that trains.", rich_help_panel=ENGINE)
    ] = 0.0,
    superlink: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="deployment: a SuperLink that is there.",
            rich_help_panel=ENGINE,
            show_default="that of fedinv up",
        ),
    ] = None,
    root_certificates: Annotated[
        Path | None,
        typer.Option(
            help="deployment: the certificate of the authority that vouches for that SuperLink.", rich_help_panel=ENGINE
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Runs, each of another seed: means with standard deviations; inline.", rich_help_panel="Run"
        ),
    ] = 1,
    jobs: Jobs = None,
    out: Annotated[Path | None, out_in("runs/SCENARIO-N")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a scenario's federation, attack it, judge the attacks and write the report."""
    options = {
        "ray_address": ray_address,
        "client_cpus": client_cpus,
        "client_gpus": client_gpus,
        "superlink": superlink,
        "root_certificates": root_certificates,
    }
    changes = {**_stated("defenses", defense), **_stated("attacks", attack), **api.changes(settings or [])}
    if seeds > 1:
        _replicate(scenario, changes, (engine, seeds, jobs), out, as_json)
        return
    if jobs is not None:
        raise RequestError("--jobs: a single run is one process; it goes with --seeds")
    try:
        done = api.run(api.load(scenario, **changes), engine=engine, out=out or _own(scenario), options=options)
    except Stopped as stopped:
        _fail(f"stopped; go on with: fedinv run {short(stopped.folder)}", 1)
    except RunError as error:
        if error.folder is None:
            raise
        _fail(f"{error}; when that is mended, go on with: fedinv run {short(error.folder)}", 1)
    _show(done, as_json)


def _replicate(
    scenario: str, changes: dict[str, Any], how: tuple[str, int, int | None], out: Path | None, as_json: bool
) -> None:
    """Run a scenario with several seeds; `how` is the engine, the number of seeds and that of processes."""
    from fedinv.report import terminal

    engine, seeds, jobs = how
    if engine != "inline":
        raise RequestError(f"--seeds: runs on the inline engine only, leave --engine {engine} or --seeds out")
    try:
        found = api.replicate(api.load(scenario, **changes), seeds=seeds, out=out, jobs=jobs)
    except Stopped as stopped:
        _fail(f"stopped; the same command with --out {short(stopped.folder)} goes on where it was", 1)
    _show_study(found, as_json, out, (terminal.show_replication, "seeds"))


@app.command(
    epilog=examples(
        "fedinv attack runs/hospital-1 --attack row-space",
        "fedinv attack runs/hospital-1 --attack gradient-matching --set restarts=4",
    )
)
def attack(
    run: RunFolder,
    kind: Annotated[
        str,
        typer.Option(
            "--attack",
            metavar="KIND",
            help="The attack (see: fedinv list attacks).",
            rich_help_panel="Attack",
            autocompletion=names("attacks"),
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting of the attack; repeatable.", rich_help_panel="Attack"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack a finished run's observations once more and add the verdict to its results."""
    _show(api.open_run(run).attack(kind, progress=True, **api.changes(settings or [])), as_json, run)


@app.command(epilog=examples("fedinv assess hospital", "fedinv assess runs/hospital-1 --jobs 4 --out runs/why"))
def assess(
    scenario: Scenario,
    attacks: Annotated[str, attacks_in("Assess", "each change meets")] = "",
    only: Annotated[bool, only_in("Assess")] = False,
    settings: Annotated[list[str] | None, settings_in("Assess")] = None,
    jobs: Jobs = None,
    out: Annotated[Path | None, out_in("runs/SCENARIO-assess-N", "The folder of its runs.")] = None,
    as_json: AsJson = False,
) -> None:
    """Vary a scenario one thing at a time: what leaks, why, and which change lowers it most."""
    from fedinv.report import terminal

    try:
        declared = api.load(scenario, **api.changes(settings or []))
        found = api.assess(declared, attacks=attacks.split(",") if attacks else None, only=only, out=out, jobs=jobs)
    except Stopped as stopped:
        _fail(f"stopped; go on with: fedinv assess {scenario} --out {short(stopped.folder)}", 1)
    _show_study(found, as_json, out, (terminal.show_assessment, "risk card"))


@app.command(
    epilog=examples(
        "fedinv compare hospital --defenses top-k,dp-sgd:epsilon=8,masking+sign --attacks exact,row-space --seeds 3",
        "fedinv compare hospital --sweep dp-sgd.noise_multiplier=0.1:4:log6 --seeds 3",
    )
)
def compare(
    scenario: Scenario,
    defenses: Annotated[
        str,
        typer.Option(
            metavar="A,B:KEY=VALUE,A+B",
            help="Sets of defenses, each a row.",
            rich_help_panel="Compare",
            show_default="the usual ones",
        ),
    ] = "",
    attacks: Annotated[str, attacks_in("Compare", "each of them meets")] = "",
    only: Annotated[bool, only_in("Compare")] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Repetitions, each of another seed.", rich_help_panel="Compare")
    ] = 1,
    limit: Annotated[
        float, typer.Option(min=0, help="Points of AUC or R² that may be lost at most.", rich_help_panel="Compare")
    ] = 2.0,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=FROM:TO:logN",
            help="A row for each value of a key: a grid, 8:128:5 or 0.1:4:log6, or a list; repeatable.",
            rich_help_panel="Compare",
        ),
    ] = None,
    settings: Annotated[list[str] | None, settings_in("Compare")] = None,
    jobs: Jobs = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A Ray cluster to run on; its machines share the folder.",
            rich_help_panel=ENGINE,
            show_default="this machine",
        ),
    ] = None,
    out: Annotated[Path | None, out_in("runs/SCENARIO-compare-N", "The folder of its files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare defenses under attacks: what leaks, at what cost, and which to take."""
    from fedinv.report import terminal

    try:
        found = api.compare(
            api.load(scenario, **api.changes(settings or [])),
            defenses=defenses.split(",") if defenses else None,
            attacks=attacks.split(",") if attacks else None,
            only=only,
            seeds=seeds,
            limit=limit,
            sweep=sweep or (),
            out=out,
            jobs=jobs,
            ray_address=ray_address,
        )
    except Stopped:
        _fail("stopped; the same command goes on where it was", 1)
    _show_study(found, as_json, out, (terminal.show_comparison, "comparison"))


@app.command(epilog=examples("fedinv audit hospital-dp", "fedinv audit redteam-half-noise --out runs/half-noise"))
def audit(
    scenario: Scenario,
    settings: Annotated[list[str] | None, settings_in("Audit")] = None,
    out: Annotated[Path | None, out_in("runs/SCENARIO-audit-N", "The folder of its run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a claimed epsilon by canaries in the real training; exit 1 when it is contradicted."""
    from fedinv.report import terminal

    # the bounds are noted in a finished run's results only if it is that run's very scenario which is audited
    audited = api.load(scenario, **api.changes(settings)) if settings else scenario
    found = api.audit(audited, out=out)
    if as_json:
        print_json({**found.results.model_dump(mode="json"), "folder": given(found.folder, out)})
    else:
        terminal.show_audit(found.results)
    raise SystemExit(0 if found.passed else 1)


AtFolder = Annotated[
    Path, typer.Option(help="The folder in which it is noted down what was started.", rich_help_panel=OUTPUT)
]


@app.command(epilog=examples("fedinv up --clients 20", "fedinv up --clients 3 --tls"))
def up(
    clients: Annotated[int, typer.Option(min=1, help="SuperNodes, one a client.", rich_help_panel=ENGINE)] = 3,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", help="Encrypt, and let only registered nodes in.", rich_help_panel=ENGINE, show_default=False
        ),
    ] = False,
    at: AtFolder = Path(".fedinv"),
) -> None:
    """Start a deployment on this machine, for fedinv run --engine deployment."""
    address, nodes = api.up(at, clients, tls=tls, say=lambda line: typer.echo(line, err=True))
    typer.echo(f"up on {address} with {nodes} SuperNode{'' if nodes == 1 else 's'}; end it with: fedinv down")


@app.command(epilog=examples("fedinv down", "fedinv down --at elsewhere/.fedinv"))
def down(at: AtFolder = Path(".fedinv")) -> None:
    """End the deployment that fedinv up started, and nothing else."""
    ended = api.down(at)
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing was up")


@app.command(epilog=examples("fedinv report runs/hospital-1", "fedinv report . --pdf"))
def report(
    run: RunFolder,
    pdf: Annotated[
        bool,
        typer.Option("--pdf", help="Also report.pdf, by an installed Chromium.", show_default=False),
    ] = False,
) -> None:
    """Write a run's report.html, plots and tables (results.csv, .parquet, .tex) anew; print where it is."""
    typer.echo(Path(run) / api.open_run(run).render(pdf=pdf).name)


@app.command("list", epilog=examples("fedinv list attacks", "fedinv list scenarios --json"))
def list_(
    what: Annotated[
        str,
        typer.Argument(
            metavar="GROUP",
            help="scenarios, attacks, defenses, datasets, deviations or detectors.",
            autocompletion=lambda incomplete: [g for g in api.GROUPS if g.startswith(incomplete)],
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """List what there is to choose from, one line each."""
    rows = api.available(what)  # type: ignore[arg-type]
    if as_json:
        print_json(rows)
    else:
        from fedinv.report.listing import listed

        typer.echo(listed(rows))


@app.command(epilog=examples("fedinv explain exact", "fedinv explain training.lr"))
def explain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="An attack, a defense, a data set, or a scenario's key such as training.lr."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what something is, what it needs and claims, its paper, and its settings with bounds and defaults."""
    found = api.explain(name)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from fedinv.report.listing import explained

    typer.echo(explained(found))


duel.register(app)
recording.register(app)
own_app.register(app)
own_records.register(app)
lab.register(app)


def main() -> None:
    """Entry point: turns our errors into one line on stderr and an exit code."""
    gc.set_threshold(1_000_000, 20, 20)  # importing torch makes a million objects that stay: a sixth of a small run
    try:
        app()
    except RequestError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped", 1)
    except MemoryError:
        _fail("this machine has not enough memory for it: make the model, the batches or the federation smaller", 1)


def _stated(key: str, texts: list[str] | None) -> dict[str, Any]:
    """A change of the scenario where the option was given."""
    return {} if texts is None else {key: texts}


def _own(scenario: str) -> Path | None:
    """The folder of a run that was given to be gone on with."""
    return Path(scenario) if api.holds(scenario, "scenario.toml") else None


def _fail(message: str, code: int) -> NoReturn:
    print("fedinv: " + plain(message, LONGEST_MESSAGE), file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


def _show(done: Any, as_json: bool, folder: str | None = None) -> None:
    if as_json:
        print_json({**done.results.model_dump(mode="json"), "run": folder or str(done.folder)})
        return
    from fedinv.report import terminal
    from fedinv.report.reading import claimed_texts

    read = claimed_texts(done.folder, done.results)
    terminal.show_run(done.results, short(done.folder / "report.html"), read)


def _show_study(found: Any, as_json: bool, out: Path | None, how: tuple[Callable[[Any], None], str]) -> None:
    """Print what a study of several runs found; `how` is what shows its results, and what its page is called."""
    if as_json:
        print_json({**found.results.model_dump(mode="json"), "folder": given(found.folder, out)})
        return
    show, page = how
    show(found.results)
    typer.echo(f"\n{page}: {short(found.report)}")


if __name__ == "__main__":
    main()
