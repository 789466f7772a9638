"""The command line. Results go to stdout, all else to stderr; nothing heavy is imported before it is needed."""

import gc
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fedinv.errors import RequestError, RunError
from fedinv.report import terminal

if TYPE_CHECKING:
    from fedinv.results.run import Results
    from fedinv.runs.attack_runner import ProgressBars

app = typer.Typer(
    name="fedinv",
    help="What would the server of a federation learn about whom, and what does each defense buy at what cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. --set training.lr=0.1")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]


@app.command()
def run(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, a .toml file, or an unfinished run's folder.")],
    settings: Settings = None,
    engine: Annotated[str, typer.Option(help="inline, ray or deployment")] = "inline",
    out: Annotated[Path | None, typer.Option(help="The run's folder. [default: runs/SCENARIO-N]")] = None,
    ray_address: Annotated[str | None, typer.Option(help="ray: a cluster that is there, as HOST:PORT.")] = None,
    client_cpus: Annotated[int, typer.Option(min=1, help="ray: CPUs for each client that trains.")] = 1,
    client_gpus: Annotated[float, typer.Option(min=0, help="ray: GPUs for each client that trains.")] = 0.0,
    superlink: Annotated[str | None, typer.Option(help="deployment: a SuperLink that is there, as HOST:PORT.")] = None,
    root_certificates: Annotated[
        Path | None, typer.Option(help="deployment: whose certificate vouches for that SuperLink.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a scenario's federation, attack it, judge the attacks and write the report."""
    from fedinv.engines import Options
    from fedinv.runs import run as runs
    from fedinv.scenario.reading import read

    options = Options(ray_address, client_cpus, client_gpus, superlink=superlink, root_certificates=root_certificates)
    declared = read(scenario, settings or [])
    if out is None and (Path(scenario) / "scenario.toml").is_file():
        out = Path(scenario)
    runs.check(declared, engine)
    folder = runs.open_folder(declared, out)
    try:
        with _progress() as steps:
            results = runs.run(declared, folder, engine, steps, options)
    except KeyboardInterrupt:
        _fail(f"stopped; go on with: fedinv run {_short(folder)}", 1)
    except RunError as error:
        _fail(f"{error}; when that is mended, go on with: fedinv run {_short(folder)}", 1)
    _show(results, folder, as_json)


@app.command()
def attack(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")],
    kind: Annotated[str, typer.Option("--attack", help="One of fedinv list attacks.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Attack a finished run's observations once more and add the verdict to its results."""
    from fedinv.runs import run as runs
    from fedinv.storage.documents import override

    parameters: dict[str, Any] = {}
    for setting in settings or []:
        override(parameters, setting)
    with _progress() as steps:
        results = runs.again(run, kind, parameters, steps)
    _show(results, run, as_json)


@app.command()
def assess(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, a .toml file, or a run's folder.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Where its runs go. [default: runs/SCENARIO-assess-N]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core]")] = None,
    as_json: AsJson = False,
) -> None:
    """Vary a scenario one thing at a time: what leaks, why, and which change lowers it most."""
    from fedinv.report import terminal
    from fedinv.report.assessment_page import render
    from fedinv.runs import run as runs
    from fedinv.scenario.reading import read
    from fedinv.storage import files
    from fedinv.studies.assess import assess as vary
    from fedinv.studies.findings import assessment

    declared = read(scenario, settings or [])
    runs.check(declared, "inline")
    folder = runs.new_folder(f"{declared.name}-assess") if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _progress() as steps:
            leaks = vary(declared, folder, jobs, steps("one change at a time"))
    except KeyboardInterrupt:
        _fail(f"stopped; go on with: fedinv assess {scenario} --out {_short(folder)}", 1)
    found = assessment(declared, folder, leaks)
    files.write_json(folder / "assessment.json", found.model_dump(mode="json"))
    page = render(found, folder)
    if as_json:
        typer.echo(json.dumps({**found.model_dump(mode="json"), "folder": str(folder)}, indent=2))
        return
    terminal.show_assessment(found)
    typer.echo(f"\nrisk card: {_short(page)}")


@app.command()
def compare(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, a .toml file, or a run's folder.")],
    defenses: Annotated[str, typer.Option(help="As a,b:key=value,a+b. [default: eight usual ones]")] = "",
    attacks: Annotated[str, typer.Option(help="As x,y:key=value. [default: the scenario's, and row-space]")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each of another seed.")] = 1,
    limit: Annotated[float, typer.Option(min=0, help="Points of AUC or R² that may be lost at most.")] = 2.0,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Where its files go. [default: runs/SCENARIO-compare-N]")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core]")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A Ray cluster to run on, as HOST:PORT; its machines share the folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare defenses under attacks: what leaks, at what cost, and which to take."""
    from fedinv.report import comparison_page as report
    from fedinv.runs import run as runs
    from fedinv.scenario.reading import read
    from fedinv.studies import compare as comparing
    from fedinv.studies.defense_sets import USUAL, stacks

    declared = read(scenario, settings or [])
    runs.check(declared, "inline")
    chosen = stacks(defenses.split(",") if defenses else USUAL)
    attacking = comparing.attacks_of(declared, attacks.split(",") if attacks else [])
    folder = runs.new_folder(f"{declared.name}-compare") if out is None else out
    try:
        with _progress() as steps:
            cells, points = steps("cells"), limit / 100
            found = comparing.compare(declared, chosen, attacking, seeds, points, folder, jobs, cells, ray_address)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on where it was", 1)
    page = report.write(found, folder)
    if as_json:
        typer.echo(json.dumps({**found.model_dump(mode="json"), "folder": str(folder)}, indent=2))
        return
    terminal.show_comparison(found)
    typer.echo(f"\ncomparison: {_short(page)}")


@app.command()
def audit(
    scenario: Annotated[str, typer.Argument(help="A shipped scenario, a .toml file, or a run's folder.")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Where its run goes. [default: runs/SCENARIO-audit-N]")] = None,
    as_json: AsJson = False,
) -> None:
    """Audit a claimed epsilon by canaries in the real training; exit 1 when it is contradicted."""
    from fedinv.runs import run as runs
    from fedinv.scenario.reading import read
    from fedinv.storage import files
    from fedinv.studies import audit as auditing

    declared = read(scenario, settings or [])
    runs.check(declared, "inline")
    folder = runs.new_folder(f"{declared.name}-audit") if out is None else out
    with _progress() as steps:
        found = auditing.audit(declared, folder, steps)
    files.write_json(folder / "audit.json", found.model_dump(mode="json"))
    if (Path(scenario) / "results.json").is_file():
        auditing.note(found, Path(scenario))
    if as_json:
        typer.echo(json.dumps({**found.model_dump(mode="json"), "folder": str(folder)}, indent=2))
    else:
        terminal.show_audit(found)
    raise SystemExit(1 if found.verdict == "FAIL" else 0)


AtFolder = Annotated[Path, typer.Option(help="Where it is noted down what was started.")]


@app.command()
def up(
    clients: Annotated[int, typer.Option(min=1, help="SuperNodes, one a client.")] = 3,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, and let only registered nodes in.")] = False,
    at: AtFolder = Path(".fedinv"),
) -> None:
    """Start a deployment on this machine, for fedinv run --engine deployment."""
    from fedinv.engines.deployment import rehearsal

    started = rehearsal.up(at, clients, tls, lambda line: typer.echo(line, err=True))
    typer.echo(f"up on {started.address} with {len(started.nodes)} SuperNodes; end it with: fedinv down")


@app.command()
def down(at: AtFolder = Path(".fedinv")) -> None:
    """End the deployment that fedinv up started, and nothing else."""
    from fedinv.engines.deployment import rehearsal

    ended = rehearsal.down(at)
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing was up")


@app.command()
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")]) -> None:
    """Write a run's report.html anew and print where it is."""
    from fedinv.report import render

    if not (run / "results.json").is_file():
        raise RequestError(f"{run}: holds no finished run; start one with fedinv run")
    typer.echo(render(run))


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="scenarios, attacks, defenses or datasets")], as_json: AsJson = False
) -> None:
    """List what there is to choose from, one line each."""
    from fedinv import plugins
    from fedinv.errors import nearest
    from fedinv.storage import documents

    groups: dict[str, Any] = {
        "scenarios": documents.summaries,
        **{group: lambda g=group: plugins.listing(g) for group in ("attacks", "defenses", "datasets")},
    }
    if what not in groups:
        raise RequestError(f"list {what}: there is no such list{nearest(what, groups)}")
    rows: dict[str, str] = groups[what]()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    width, across = max(map(len, rows), default=0) + 2, shutil.get_terminal_size().columns
    for name, summary in rows.items():
        typer.echo(f"{name:{width}}{_indented(summary, width, across) if sys.stdout.isatty() else summary}")


def main() -> None:
    """Entry point: turns our errors into one line on stderr and an exit code."""
    gc.set_threshold(100_000, 20, 20)  # importing torch makes a million objects that stay: a sixth of a small run
    try:
        app()
    except RequestError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("stopped", 1)


def _indented(text: str, start: int, across: int) -> str:
    """The text broken at words, so that what begins at column `start` stays right of it."""
    return f"\n{' ' * start}".join(textwrap.wrap(text, max(across - start, 20)))


def _fail(message: str, code: int) -> NoReturn:
    print("fedinv: " + " ".join(message.split()), file=sys.stderr)  # noqa: T201
    raise SystemExit(code)


@contextmanager
def _progress() -> "Iterator[ProgressBars]":
    """Progress bars on stderr, one a step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description:42}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def step(description: str) -> Any:
            task = bars.add_task(description, total=1.0)
            return lambda share: bars.update(task, completed=share)

        yield step


def _show(results: "Results", folder: Path, as_json: bool) -> None:
    from fedinv.report import terminal

    if as_json:
        typer.echo(json.dumps({**results.model_dump(mode="json"), "run": str(folder)}, indent=2))
    else:
        terminal.show_run(results, _short(folder / "report.html"))


def _short(path: Path) -> str:
    """The path as the user would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    main()
