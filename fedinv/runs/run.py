"""A run from scenario to report: train, attack, judge, write. Each stage resumes where a stopped run left it."""

import json
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from fedinv.attack import Attack, Progress
from fedinv.engines import DEFAULT, Options, start_over
from fedinv.errors import RequestError, RunError, nearest, require
from fedinv.judge.truth import auxiliary, forget_files, held_out, population_of
from fedinv.report.terminal import Bar
from fedinv.results.run import Results
from fedinv.runs import provenance, sizes
from fedinv.runs.asked import asked
from fedinv.runs.attack_runner import ProgressBars
from fedinv.runs.context import TrainedRun, with_secret
from fedinv.runs.evaluation import evaluate
from fedinv.runs.price import payable, price
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.scenario.short_form import made
from fedinv.storage import files, lock, paths
from fedinv.storage.checkpoints import read_progress
from fedinv.storage.run_folder import RunFolder
from fedinv.task.threads import one_thread
from fedinv.version import __version__

ENGINES = ("inline", "ray", "deployment")
EXTRAS = {"ray": "ray"}
"""Package that an engine needs beside Flower; the extra that installs it has the engine's name."""


def quiet(_: str) -> Bar:
    """Open a progress bar that shows nothing."""
    return lambda share, now="": None


def check(scenario: Scenario, engine: str) -> None:
    """Raise RequestError for an unknown engine, unusable data, a size that no machine has or an unpayable budget.

    Before anything is written.
    """
    _engine(engine)
    forget_files(scenario.data)
    sizes.refuse_endless(scenario)
    people = population_of(scenario)
    scenario.training.check_classes(people.schema.classes)
    held_out(scenario, people)
    sizes.refuse_too_large(scenario, people)
    payable(scenario)


def open_folder(scenario: Scenario, out: Path | None) -> Path:
    """The absolute path of a new run's folder, or an unfinished one's of the same scenario, with scenario.toml written.

    Without `out`: runs/<scenario>-<n> with the first free n. Raises RequestError for a folder that holds anything else.
    """
    if out is None:
        out = paths.numbered(scenario.name)
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out}: is a file, name a folder")
    run = RunFolder(out)
    if run.scenario.is_file():
        if run.is_finished:
            raise RequestError(f"{out}: holds a finished run; name another folder, or see fedinv report {out}")
        if read(str(run.scenario)) != scenario:
            raise RequestError(f"{out}: holds an unfinished run of another scenario; name another folder")
        _claim_or_refuse(run, scenario)
    elif out.is_dir() and any(path.name not in lock.NAMES for path in out.iterdir()):
        raise RequestError(f"{out}: is not empty and holds no run; name another folder")
    else:
        made = provenance.of(scenario)
        files.write(run.scenario, scenario.to_toml())
        provenance.write(out, made)
    return out.resolve()


def _claim_or_refuse(run: RunFolder, scenario: Scenario) -> None:
    """Raise RequestError where an unfinished run was begun with other records or code.

    One that does not say what it was begun with is taken over where nothing of it was trained by `fedinv run`: it was
    stopped at once, or it was trained by `flwr run`, whose server cannot see the records.
    """
    made = provenance.of(scenario)
    if not run.provenance.is_file() and _trained_by(run) == "flower":
        provenance.write(run.root, made)
    provenance.refuse_other(run.root, made)


@one_thread()
def run(
    scenario: Scenario,
    folder: Path,
    engine: str = "inline",
    bars: ProgressBars = quiet,
    options: Options = DEFAULT,
    page: bool = True,
) -> Results:
    """Run a scenario in its folder up to results.json and report.html; an unfinished run resumes where it stopped.

    Without `page` no report.html is written.

    Raises RequestError when the scenario's data cannot be used, RunError when the run fails.
    """
    run = TrainedRun(with_secret(scenario, RunFolder(folder)), RunFolder(folder))
    _train_both(run, engine, bars, options)
    return _finish(run, scenario.attacks, _trained_by(run.folder), bars, page)


def train(run: TrainedRun, engine: str = "inline", bars: ProgressBars = quiet, options: Options = DEFAULT) -> None:
    """Train the run's federation, without attacking it, unless its folder shows that the training is complete.

    Raises RequestError for an engine that is not there, RunError when the training fails.
    """
    _train(run, engine, bars("training"), options)


def anew_or_read(scenario: Scenario, folder: Path, plain: Path | None = None) -> Results:
    """A study's run of a scenario: read where the folder holds this very run, finished, else resumed or made anew.

    `plain` is the folder of a finished run of the same scenario without defenses; it is linked, not trained and
    attacked again.
    """
    there = RunFolder(folder)
    if there.scenario.is_file() and (
        read(str(there.scenario)) != scenario
        or provenance.difference(folder, provenance.of(scenario), attacks=True) is not None
    ):
        there.clear()
    if there.is_finished:
        return read_results(there)
    there = RunFolder(open_folder(scenario, folder))
    _link(TrainedRun(scenario, there), plain)
    return run(scenario, there.root)


def finished_cell(scenario: Scenario, folder: Path, attacks: Sequence[Attack]) -> Results | None:
    """The results of a cell that is there already, with all of these attacks; None where something is left to do.

    Raises RunError naming a file that is damaged.
    """
    there = RunFolder(folder)
    if not there.is_finished or provenance.difference(folder, provenance.of(scenario, attacks), attacks=True):
        return None
    results = read_results(there)
    tried = _parameters(results)
    return results if all(attack.model_dump(mode="json") in tried for attack in attacks) else None


@one_thread()
def cell(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], plain: Path | None = None, bars: ProgressBars = quiet
) -> Results:
    """Train a scenario in its folder and attack it, skipping the training and attacks that the folder already holds.

    `plain` is the folder of a finished run of the same scenario without defenses; it is linked, not trained and
    attacked again. What the folder holds is made anew where it was made from other records or code.
    """
    there, now = RunFolder(folder), provenance.of(scenario, attacks)
    if there.scenario.is_file() and provenance.difference(folder, now, attacks=True) is not None:
        there.clear()  # of a data file that changed while it was read, or of a former version
    provenance.write(folder, now)
    run = TrainedRun(with_secret(scenario, there), there)
    _link(run, plain)
    if not run.folder.scenario.is_file():
        files.write(run.folder.scenario, scenario.to_toml())
    _train_both(run, "inline", bars, DEFAULT)
    if run.folder.is_finished:
        results = read_results(run.folder)
        made = _parameters(results)
        if all(attack.model_dump(mode="json") in made for attack in attacks):
            return results
        attacks = list(dict.fromkeys([*map(parse_attack, made), *attacks]))
    return _finish(run, attacks, "inline", bars)


def _link(run: TrainedRun, plain: Path | None) -> None:
    """Take a finished run without defenses, where there is one, for that which a run is compared with."""
    if run.undefended is not None and plain is not None and not run.undefended.folder.root.exists():
        files.link_tree(plain, run.undefended.folder.root)


def again(folder: Path, kind: str, settings: dict[str, object], bars: ProgressBars = quiet) -> Results:
    """Attack a finished run with one more attack, and add its verdict to the results.

    Raises RequestError for an unknown attack or setting, a folder that holds no finished run, and one whose records or
    code changed since.
    """
    there = RunFolder(folder).finished()
    before, scenario = read_results(there), read(str(there.scenario))
    new = parse_attack({**settings, "kind": kind})
    forget_files(scenario.data)
    provenance.refuse_other(folder, provenance.of(scenario))
    attacks = list(dict.fromkeys([*map(parse_attack, _parameters(before)), new]))
    return _finish(TrainedRun(with_secret(scenario, there), there), attacks, before.engine, bars)


def read_results(folder: RunFolder) -> Results:
    """A finished run's results. Raises RunError naming a file that is missing or damaged."""
    return files.read_model(Results, folder.results)


def _parameters(results: Results) -> list[dict[str, object]]:
    """The parameters of every attack in the results, once for each variant."""
    return [*(one.parameters for one in results.attacks), *(one.parameters for one in results.inferences)]


def parse_attack(parameters: dict[str, object]) -> Attack:
    """An attack from its parameters, `kind` among them. Raises RequestError naming the nearest right spelling."""
    attack: Attack = made("attacks", parameters)
    return attack


def _finish(run: TrainedRun, attacks: Sequence[Attack], engine: str, bars: ProgressBars, page: bool = True) -> Results:
    results = evaluate(run, attacks, engine, bars, page)
    log(run.folder, "finished", headline=results.headline)
    return results


def log(folder: RunFolder, event: str, **facts: object) -> None:
    """Append an event with its time and facts to the run's log. Raises RunError naming the file."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts}, default=str)
    try:
        with folder.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(f"{folder.log}: cannot be written ({error.strerror})") from error


def _engine(name: str) -> Callable[[Scenario, Path, Callable[[int], None], Options], None]:
    """The function that trains on an engine. Raises RequestError for an unknown one, or where its extra is missing."""
    if name not in ENGINES:
        raise RequestError(f"engine {name!r}: unknown{nearest(name, ENGINES)}")
    if name in EXTRAS:
        require(EXTRAS[name], name, f"engine {name!r}")
    try:
        train: Callable[[Scenario, Path, Callable[[int], None], Options], None] = import_module(
            f"fedinv.engines.{name}"
        ).train
    except ModuleNotFoundError as error:
        raise RequestError(
            f"engine {name!r}: is not part of fedinv {__version__}; use inline, or flwr run for Flower's own"
        ) from error
    return train


def _trained_by(folder: RunFolder) -> str:
    """The engine that trained a run, by its log; "flower" for a run that was trained by `flwr run`."""
    lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines() if folder.log.is_file() else []
    return next((engine for line in reversed(lines) if (engine := _begun_by(line)) is not None), "flower")


def _begun_by(line: str) -> str | None:
    """The engine that a line of the log says a training was begun on; None for any other line, or a damaged one."""
    try:
        event = json.loads(line)
        return str(event["engine"]) if event["event"] == "training" else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _train_both(run: TrainedRun, engine: str, bars: ProgressBars, options: Options) -> None:
    """Train the federation, and a second one without defenses where it has any."""
    if not run.folder.is_trained:
        spent = price(run.scenario)
        run.folder.root.mkdir(parents=True, exist_ok=True)
        log(run.folder, "priced", epsilon=spent.epsilon, exceeds=spent.exceeds, note=spent.note)
    _train(run, engine, bars("training"), options)
    if run.undefended is not None:
        _train(run.undefended, engine, bars("training without defenses"), options)


def _train(run: TrainedRun, engine: str, progress: Progress, options: Options) -> None:
    """Train unless the ledger, which is written last, shows that the training is complete."""
    scenario, folder = run.scenario, run.folder
    if folder.is_trained:
        progress(1.0)
        return
    expected = scenario.federation.rounds * scenario.federation.participants
    replies = 0
    if folder.progress.is_file() and _trained_by(folder) != engine:
        start_over(scenario, folder.root)
    begun = read_progress(folder, scenario.federation.rounds)
    if begun is not None:
        replies = begun.round * scenario.federation.participants

    def on_reply(round_: int) -> None:
        nonlocal replies
        replies = min(replies + 1, round_ * scenario.federation.participants)  # decreases where it starts over
        progress(min(1.0, replies / expected))  # a run that starts over gets more replies

    folder.root.mkdir(parents=True, exist_ok=True)
    granted = auxiliary(scenario, run.people) if scenario.server.deviations else None
    if granted is not None:
        files.write_tensors(folder.auxiliary, {"records": granted.records, "labels": granted.labels})
    people = asked(scenario, run.people) if scenario.server.deviations else None
    if people is not None:
        files.write_tensors(folder.asked, {"records": people.records, "labels": people.labels})
    log(folder, "training", engine=engine, scenario=scenario.name)
    _engine(engine)(scenario, folder.root, on_reply, options)
    progress(1.0)
