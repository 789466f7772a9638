"""A run from scenario to report: train, attack, judge, write. Each stage picks up what an earlier stop left behind."""

import json
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from pydantic import ValidationError

from fedinv import __version__, plugins
from fedinv.attack import Attack, Progress
from fedinv.engines import DEFAULT, Options, start_over
from fedinv.errors import RequestError, RunError, nearest
from fedinv.judge.truth import everyone, held_out
from fedinv.results.run import Results
from fedinv.runs.attack_runner import Steps
from fedinv.runs.evaluation import evaluate
from fedinv.scenario.mistakes import explain
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files

ENGINES = ("inline", "ray", "deployment")


def quiet(_: str) -> Progress:
    """Steps for a caller who wants no progress shown."""
    return lambda _: None


def check(scenario: Scenario, engine: str) -> None:
    """Raise RequestError for an engine that is not there or data that cannot be used, before anything is written."""
    _engine(engine)
    held_out(scenario, everyone(scenario))


def new_folder(name: str) -> Path:
    """runs/<name>-<n> with the first free n; it is not made."""
    number = 1
    while (found := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return found


def open_folder(scenario: Scenario, out: Path | None) -> Path:
    """The folder of a new run, or of an unfinished one of the same scenario, with scenario.toml written.

    Without `out`: runs/<scenario>-<n> with the first free n. Raises RequestError for a folder that holds anything else.
    """
    if out is None:
        out = new_folder(scenario.name)
    if out.exists() and not out.is_dir():
        raise RequestError(f"--out {out}: is a file, name a folder")
    declared = out / "scenario.toml"
    if declared.is_file():
        if (out / "results.json").is_file():
            raise RequestError(f"--out {out}: holds a finished run; name another folder, or see fedinv report {out}")
        if read(str(declared)) != scenario:
            raise RequestError(f"--out {out}: holds an unfinished run of another scenario; name another folder")
    elif out.is_dir() and any(out.iterdir()):
        raise RequestError(f"--out {out}: is not empty and holds no run; name another folder")
    else:
        files.write(declared, scenario.to_toml())
    return out.resolve()


def run(
    scenario: Scenario, folder: Path, engine: str = "inline", steps: Steps = quiet, options: Options = DEFAULT
) -> Results:
    """Run a scenario in its folder to results.json and report.html; an unfinished run goes on where it stopped.

    Raises RequestError when the scenario's data cannot be used, RunError when the run fails.
    """
    torch.set_num_threads(1)  # the tensors of local training are small: more threads are slower
    _train(scenario, folder, engine, steps("training"), options)
    if scenario.defenses:
        _train(scenario.undefended(), folder / "undefended", engine, steps("training without defenses"), options)
    return _finish(scenario, folder, scenario.attacks, _trained_by(folder), steps)


def cell(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], plain: Path | None = None, steps: Steps = quiet
) -> Results:
    """Train a scenario in its folder and attack it, doing only what was not done before.

    `plain` is the finished run of the same scenario without defenses, which is not trained and attacked again.
    """
    torch.set_num_threads(1)
    if scenario.defenses and plain is not None and not (folder / "undefended").exists():
        files.link_tree(plain, folder / "undefended")
    if not (folder / "scenario.toml").is_file():
        files.write(folder / "scenario.toml", scenario.to_toml())
    _train(scenario, folder, "inline", steps("training"))
    if scenario.defenses:
        _train(scenario.undefended(), folder / "undefended", "inline", steps("training without defenses"))
    if (folder / "results.json").is_file():
        results = Results.model_validate(files.read_json(folder / "results.json"))
        made = [one.parameters for one in results.attacks] + [one.parameters for one in results.inferences]
        if all(attack.model_dump(mode="json") in made for attack in attacks):
            return results
        attacks = list(dict.fromkeys([*map(parse_attack, made), *attacks]))
    return _finish(scenario, folder, attacks, "inline", steps)


def again(folder: Path, kind: str, settings: dict[str, object], steps: Steps = quiet) -> Results:
    """Attack a finished run once more, and add the verdict to its results.

    Raises RequestError for an unknown attack or setting, or a folder that holds no finished run.
    """
    if not (folder / "results.json").is_file():
        raise RequestError(f"{folder}: holds no finished run; start one with fedinv run")
    scenario = read(str(folder / "scenario.toml"))
    before = Results.model_validate(files.read_json(folder / "results.json"))
    made = [found.parameters for found in before.attacks] + [found.parameters for found in before.inferences]
    attacks = [parse_attack(parameters) for parameters in made]
    new = parse_attack({**settings, "kind": kind})
    attacks = list(dict.fromkeys([*attacks, new]))
    return _finish(scenario, folder, attacks, before.engine, steps)


def parse_attack(parameters: dict[str, object]) -> Attack:
    """An attack from its kind and settings. Raises RequestError naming the nearest right spelling."""
    kind = str(parameters.get("kind"))
    model = plugins.load("attacks", kind)
    try:
        attack = model.model_validate(parameters)
    except ValidationError as error:
        raise RequestError(f"attack {kind}: {explain(error, model, parameters)}") from None
    if not isinstance(attack, Attack):
        raise RequestError(f"attack {kind}: its class does not derive from fedinv.attack.Attack")
    return attack


def _finish(scenario: Scenario, folder: Path, attacks: Sequence[Attack], engine: str, steps: Steps) -> Results:
    results = evaluate(scenario, folder, attacks, engine, everyone(scenario), steps)
    log(folder, "finished", headline=results.headline)
    return results


def log(folder: Path, event: str, **facts: object) -> None:
    """Append an event to the run's log.jsonl."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event, **facts}, default=str)
    try:
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise RunError(f"{folder / 'log.jsonl'}: cannot be written ({error.strerror})") from error


def _engine(name: str) -> Callable[[Scenario, Path, Callable[[int], None], Options], None]:
    """An engine's entry."""
    if name not in ENGINES:
        raise RequestError(f"--engine {name}: unknown engine{nearest(name, ENGINES)}")
    try:
        train: Callable[[Scenario, Path, Callable[[int], None], Options], None] = import_module(
            f"fedinv.engines.{name}"
        ).train
    except ModuleNotFoundError as error:
        raise RequestError(
            f"--engine {name}: is not part of fedinv {__version__}; use --engine inline, or flwr run for Flower's own"
        ) from error
    return train


def _trained_by(folder: Path) -> str:
    """The engine that trained a run; "flower" for one that `flwr run` left here."""
    path = folder / "log.jsonl"
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    return next((str(e["engine"]) for e in reversed(events) if e["event"] == "training"), "flower")


def _train(scenario: Scenario, folder: Path, engine: str, progress: Progress, options: Options = DEFAULT) -> None:
    """Train unless the ledger, written last, shows that it was done."""
    if (folder / "ledger.json").is_file():
        progress(1.0)
        return
    expected = scenario.federation.rounds * scenario.federation.participants
    replies = 0
    checkpoint = folder / "checkpoint" / "progress.json"
    if checkpoint.is_file() and _trained_by(folder) != engine:
        start_over(scenario, folder)
    if checkpoint.is_file():
        replies = files.read_json(checkpoint)["round"] * scenario.federation.participants

    def on_reply(round_: int) -> None:
        nonlocal replies
        replies = min(replies + 1, round_ * scenario.federation.participants)  # less again where it started over
        progress(min(1.0, replies / expected))  # where a stopped run starts over, more than expected reply

    folder.mkdir(parents=True, exist_ok=True)
    log(folder, "training", engine=engine, scenario=scenario.name)
    _engine(engine)(scenario, folder, on_reply, options)
    progress(1.0)
