"""What `import fedinv` offers, and all that the command line calls.

The examples in the docstrings are run as tests, one after the other in an empty folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fedinv.defend_mod import defend, vet
from fedinv.errors import EndedError, RequestError, RunError, Stopped, nearest
from fedinv.outcomes import Assessment, Audit, Comparison, Duel, Replication, Run, open_run
from fedinv.recording.calls import import_files, open_recording, record, recorded_copy, tap, tap_mod
from fedinv.runs.own_apps.calls import attack_recording, gate, leak_map
from fedinv.runs.own_records.calls import probe

if TYPE_CHECKING:
    from fedinv.attack import Attack, Claim
    from fedinv.runs.own_update import Arrays
    from fedinv.scenario.explanation import Explanation
    from fedinv.scenario.scenario import Scenario
    from fedinv.task.models import AnyModel
    from fedinv.task.schema import Schema

__all__ = [
    "assess",
    "attack_recording",
    "audit",
    "available",
    "compare",
    "defend",
    "duel",
    "gate",
    "import_files",
    "invert",
    "leak_map",
    "load",
    "open_recording",
    "open_run",
    "probe",
    "record",
    "recorded_copy",
    "replicate",
    "run",
    "tap",
    "tap_mod",
    "vet",
]

Source = "Scenario | str | Path | Mapping[str, Any]"
"""A scenario, or what `load` makes one of."""
Group = Literal["scenarios", "attacks", "defenses", "datasets", "deviations", "detectors"]
GROUPS: tuple[Group, ...] = get_args(Group)


def load(scenario: "Scenario | str | Path | Mapping[str, Any]", **changes: Any) -> "Scenario":
    """Read a scenario and change some of its keys.

    `scenario` is the name of a shipped one, the path of a TOML file, the folder of a run, TOML text, a table as a dict,
    or a Scenario. Each change is one key of the scenario, dotted where it lies in a table, with its new value, exactly
    as the command line's ``--set`` writes it; a table given whole replaces the one that was there, and None takes a key
    away, so that its default holds. In `defenses` and `attacks` a text in the command line's short way may stand for a
    table: ``"dp-sgd:epsilon=8"``, and ``"masking+top-k"`` for two. An attack named so keeps the settings that the
    scenario gives it.

    Raises RequestError, one line that names the file, the key and the nearest right spelling.

    >>> import fedinv
    >>> scenario = fedinv.load("hospital", seed=3, defenses=["dp-sgd:epsilon=8"], **{"training.lr": 0.1})
    >>> scenario.seed, scenario.training.lr, scenario.defenses[0].kind
    (3, 0.1, 'dp-sgd')
    >>> fedinv.load("hospital", sead=3)
    Traceback (most recent call last):
    fedinv.errors.RequestError: ...hospital.toml: sead: unknown key (did you mean 'seed'?)
    """
    from fedinv.scenario.reading import parse
    from fedinv.scenario.scenario import Scenario
    from fedinv.storage import documents

    if isinstance(scenario, Scenario) and not changes:
        return scenario
    document, where, folder = _document(scenario)
    for key, value in _written_out(document, changes).items():
        documents.change(document, key, value)
    documents.anchor(document, folder)
    return parse(document, where)


def run(
    scenario: "Scenario | str | Path | Mapping[str, Any]",
    *,
    engine: str = "inline",
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Train a scenario's federation, attack what crossed the wire, judge the attacks and write the report.

    `scenario` is whatever `load` takes; the folder of a run that was stopped is gone on with. `engine` is "inline" (in
    this process), "ray" or "deployment"; `options` are that engine's: ray_address, client_cpus, client_gpus; superlink,
    root_certificates, deployment. `out` is the run's folder, by default runs/NAME-N below the current one with the
    first free N. `progress` shows bars on stderr.

    Raises RequestError when the scenario, engine or folder cannot be used, before anything is written; RunError when
    the run fails, its `folder` naming the run to continue; on Ctrl-C a KeyboardInterrupt with the same `folder`.

    >>> import fedinv
    >>> tiny = {"federation.rounds": 1, "attacker.watch.clients": 1}
    >>> run = fedinv.run(fedinv.load("breast-cancer", attacks=["exact"], **tiny), out="another-run", progress=False)
    >>> print(run.results.headline)
    From one update of one of 5 clinics, the server rebuilt 8 of 8 biopsy records in full; ...
    """
    from fedinv.report.terminal import bars, show_price
    from fedinv.runs import run as runs
    from fedinv.runs.price import price
    from fedinv.storage import paths
    from fedinv.storage.lock import locked

    declared, chosen = load(scenario), _options(options)
    if out is None and isinstance(scenario, (str, Path)) and holds(scenario, "scenario.toml"):
        out = scenario
    runs.check(declared, engine)
    folder = runs.open_folder(declared, None if out is None else paths.folder(out))
    if progress and declared.defenses:
        show_price(price(declared))
    with locked(folder), _going_on(folder), bars(progress) as steps:
        return Run(folder, runs.run(declared, folder, engine, steps, chosen))


def replicate(
    scenario: "Scenario | str | Path | Mapping[str, Any]",
    *,
    seeds: int = 10,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Replication:
    """Run a scenario with several seeds, and give every measure as a mean with its standard deviation.

    Each seed, the scenario's and those after it, draws other people, other weights and other batches, and is a run of
    its own in the folder seed-N of `out`, by default runs/NAME-seeds-N; runs in it that are finished are not done
    again. `jobs` processes work at once, one a core by default; a script must guard the call by
    ``if __name__ == "__main__":``.

    Raises RequestError when the scenario cannot be used, RunError when no seed succeeds; on Ctrl-C a KeyboardInterrupt
    whose `folder` can be given as `out` to go on.

    >>> import fedinv
    >>> tiny = {"federation.rounds": 1, "attacker.watch.clients": 1}
    >>> tiny = fedinv.load("breast-cancer", attacks=["exact"], **tiny)
    >>> found = fedinv.replicate(tiny, seeds=2, jobs=1, progress=False)
    >>> found.results.seeds, found.results.measures[0].value.values
    ([7, 8], [1.0, 1.0])
    """
    from fedinv.report import replication_page as page
    from fedinv.report.terminal import bars
    from fedinv.storage.lock import locked
    from fedinv.studies import replicate as replicating
    from fedinv.studies.workers import Workers

    declared = load(scenario)
    if seeds < 1:
        raise RequestError(f"seeds: must be 1 or more, not {seeds}")
    folder = _study_folder(declared, "seeds", out)
    with locked(folder), _going_on(folder), bars(progress) as steps:
        found = replicating.replicate(declared, seeds, folder, Workers(jobs), steps("seeds"))
        page.write(found, folder)
    return Replication(folder, found)


def compare(
    scenario: "Scenario | str | Path | Mapping[str, Any]",
    *,
    defenses: Sequence[str] | None = None,
    attacks: Sequence[str] | None = None,
    only: bool = False,
    seeds: int = 1,
    limit: float = 2.0,
    sweep: Sequence[str] = (),
    out: str | Path | None = None,
    jobs: int | None = None,
    ray_address: str | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare stacks of defenses under attacks: what leaks, at what cost, and which to take.

    Each of `defenses` is a stack in the short way, such as "dp-sgd:epsilon=8", "masking+top-k" or
    "training.batch_size=32"; without any, the trials that the defenses themselves propose. The scenario without
    defenses is always among the rows. `attacks` are written likewise; without any, those of the scenario. Beside them
    every other attack that suits the model is run with quick settings, with "all" among them each one there is with its
    full settings, and none with `only`; what was not tried is named. Each of `sweep` is a key with a grid or a list of
    values, such as "dp-sgd.noise_multiplier=0.1:4:log6" or "training.batch_size=8,32": a row for each combination, in
    each of `defenses`, by default in the scenario's own. `seeds` repeats every cell with as many seeds,
    `limit` is how many points (hundredths) of the model's AUC or R² the recommended stack may lose. `jobs` processes
    work at once, one a core by default; or the CPUs of a Ray cluster at `ray_address`. `out` is the folder, by default
    runs/NAME-compare-N; finished cells are kept in .cells beside it and never run twice.

    A script that calls this must guard it by ``if __name__ == "__main__":``, as processes are started.

    Raises RequestError for a stack or attack that cannot be had, naming the nearest; RunError when the scenario does
    not even run without defenses; on Ctrl-C a KeyboardInterrupt: the same call goes on.

    >>> import fedinv
    >>> tiny = fedinv.load("breast-cancer", **{"federation.rounds": 1, "attacker.watch.clients": 1})
    >>> quick = {"attacks": ["exact"], "only": True, "jobs": 1, "progress": False}
    >>> found = fedinv.compare(tiny, defenses=["clip-noise"], out="compared/b", **quick)
    >>> [row.defenses for row in found.results.rows]
    ['none', 'clip-noise']
    """
    from fedinv.report import comparison_page as page
    from fedinv.report.terminal import bars
    from fedinv.storage.lock import locked
    from fedinv.studies import compare as comparing
    from fedinv.studies.attack_choice import choice
    from fedinv.studies.defense_sets import stacks, usual
    from fedinv.studies.sweep import swept
    from fedinv.studies.workers import Workers

    declared = load(scenario)
    folder = _study_folder(declared, "compare", out)
    if sweep:
        chosen, points = swept(declared, _texts(sweep), None if defenses is None else _texts(defenses))
    else:
        chosen, points = tuple(stacks(usual(declared) if defenses is None else _texts(defenses))), ()
    tried = choice(declared, _texts(attacks or ()), only=only)
    with locked(folder), _going_on(folder), bars(progress) as steps:
        plan = comparing.Plan(declared, chosen, tried.attacks, tried.not_tried, seeds, points)
        workers = Workers(jobs, ray_address)
        found = comparing.compare(plan, limit / 100, folder, workers, steps("cells"))
        page.write(found, folder)
    return Comparison(folder, found)


def duel(
    scenario: "Scenario | str | Path | Mapping[str, Any]",
    *,
    deviations: Sequence[str] | None = None,
    detectors: Sequence[str] | None = None,
    seeds: int = 10,
    adaptive: bool = True,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Duel:
    """Pit a malicious server's deviations against the detectors of clients that vet what they are sent.

    The scenario's own training is run by an honest server with `seeds` seeds that are reported on, and as many others
    that set each detector's threshold. With a fifth of each the server deviates, in one round or in all, as each of
    `deviations` does: kinds with settings, such as "grid:tables=2" or "fishing+freeze"; without any, every kind there
    is. All `detectors`, likewise, score every message, and the updates are read and judged. With `adaptive`, deviations
    that recovered records are tried again, changed to evade detectors. What does not fit the scenario is named.

    `out` is the folder, by default runs/NAME-duel-N; finished runs are kept in .cells beside it and never run twice.
    `jobs` processes work at once, one a core by default; a script must guard the call by
    ``if __name__ == "__main__":``.

    Raises RequestError for a deviation or detector that cannot be had, naming the nearest; RunError when the scenario
    fails with an honest server; on Ctrl-C a KeyboardInterrupt: the same call goes on.

    >>> import fedinv
    >>> tiny = fedinv.load("breast-cancer", **{"federation.rounds": 1})
    >>> quick = {"seeds": 1, "adaptive": False, "jobs": 1, "progress": False}
    >>> found = fedinv.duel(tiny, deviations=["overflow"], detectors=["bias-size"], out="dueled", **quick)
    >>> found.results.deviations, found.results.honest
    (['overflow'], (5, 5))
    """
    from fedinv.report.duel import page
    from fedinv.report.terminal import bars
    from fedinv.storage.lock import locked
    from fedinv.studies.duel import contestants
    from fedinv.studies.duel import duel as dueling
    from fedinv.studies.workers import Workers

    declared = load(scenario)
    if seeds < 1:
        raise RequestError(f"seeds: must be 1 or more, not {seeds}")
    folder = _study_folder(declared, "duel", out)
    tried = contestants.contestants(declared, _texts(deviations or ()))
    vetting = contestants.detectors(declared, _texts(detectors or ()))
    with locked(folder), _going_on(folder), bars(progress) as steps:
        plan = dueling.Plan(declared, tried, vetting, seeds, adaptive)
        found = dueling.duel(plan, folder, Workers(jobs), steps("duel"))
        page.write(found, folder)
    return Duel(folder, found)


def assess(
    scenario: "Scenario | str | Path | Mapping[str, Any]",
    *,
    attacks: Sequence[str] | None = None,
    only: bool = False,
    out: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Assessment:
    """Vary a scenario one thing at a time: what leaks, why, and which change lowers it most.

    About twelve runs: wider and narrower networks, more and fewer epochs and records, a weaker and a stronger attacker,
    two defenses. Each meets `attacks`, or else the scenario's own, and every other attack that suits the model, as in
    `compare`; those without settings are run with quick ones. `out` is the folder, by default runs/NAME-assess-N; runs
    in it that are finished are not done again. `jobs` processes work at once, one a core by default; a script must
    guard the call by ``if __name__ == "__main__":``.

    Raises RequestError when the scenario cannot be used, RunError when it does not even run as it is; on Ctrl-C a
    KeyboardInterrupt whose `folder` can be given as `out` to go on.

    >>> import fedinv
    >>> tiny = fedinv.load("breast-cancer", **{"federation.rounds": 1, "attacker.watch.clients": 1})
    >>> found = fedinv.assess(tiny, attacks=["labels"], only=True, jobs=1, progress=False)
    >>> found.results.leaks[0].change
    'the scenario as it is'
    """
    from fedinv.report.assessment_page import render
    from fedinv.report.terminal import bars
    from fedinv.storage import files
    from fedinv.storage.lock import locked
    from fedinv.studies.assess import assess as vary
    from fedinv.studies.attack_choice import choice
    from fedinv.studies.findings import assessment

    declared = load(scenario)
    folder = _study_folder(declared, "assess", out)
    tried = choice(declared, _texts(attacks or ()), only=only, quick=True)
    with locked(folder), _going_on(folder), bars(progress) as steps:
        leaks = vary(declared, folder, jobs, steps("one change at a time"), tried.attacks)
        found = assessment(declared, folder, leaks, tried)
        render(found, folder)
        files.write_json(folder / "assessment.json", found.model_dump(mode="json"))
    return Assessment(folder, found)


def audit(
    scenario: "Scenario | str | Path | Mapping[str, Any]", *, out: str | Path | None = None, progress: bool = True
) -> Audit:
    """Audit a claimed epsilon: plant canaries in the real training and measure how well an attacker detects them.

    The claim is the scenario's audit.claimed_epsilon, or else the ledger's. `out` is the folder of the run with
    canaries, by default runs/NAME-audit-N. Where `scenario` is a finished run's folder, the bounds are noted down in
    its results as well.

    Raises RequestError where no defense claims differential privacy, RunError when no update could be scored.

    >>> import fedinv
    >>> tiny = {"audit.clients": 40, "federation.rounds": 1}
    >>> found = fedinv.audit(fedinv.load("redteam-half-noise", **tiny), out="audited", progress=False)
    >>> found.results.unit, found.results.canaries
    ('client', 40)
    """
    from fedinv.report.terminal import bars
    from fedinv.runs.provenance import of, refuse_other
    from fedinv.storage import files
    from fedinv.storage.lock import locked
    from fedinv.studies import audit as auditing

    declared = load(scenario)
    folder = _study_folder(declared, "audit", out)
    noted = Path(scenario) if isinstance(scenario, (str, Path)) and holds(scenario, "results.json") else None
    if noted is not None:
        refuse_other(noted, of(declared))
    with locked(folder), bars(progress) as steps:
        found = auditing.audit(declared, folder, steps)
        files.write_json(folder / "audit.json", found.model_dump(mode="json"))
    if noted is not None:
        with locked(noted):
            auditing.note(found, noted)
    return Audit(folder, found)


def invert(
    update: "Arrays",
    *,
    sent: "Arrays",
    model: "AnyModel | Mapping[str, Any]",
    records: int,
    attack: "str | Attack" = "auto",
    schema: "Schema | Mapping[str, Any] | None" = None,
    seed: int = 7,
    progress: bool = False,
    **knows: Any,
) -> "Claim":
    """Rebuild the records behind one update of your own training, as the server would that received it.

    `update` is local minus global: the weights after local training less those before. Of a gradient g taken by one
    step of stochastic gradient descent, that is -lr * g. `sent` are the weights before. Both are tensors or arrays by
    parameter name, or in the order of the network's parameters; names of your own are matched by position. `model` is
    the architecture, such as {"kind": "mlp", "hidden": [64], "activation": "relu"}, and `records` the number of
    examples that were trained on. `schema` is a data dictionary (as a run's schema.json) that says which inputs are one
    column; without it a record is numbers.

    `attack` is a kind with settings as "gradient-matching:restarts=4", or "auto": exact, row-space, span-tokens,
    column-tokens, zeros, feature-inversion and gradient-matching in turn, each where it suits the network, until a
    claim accounts for all records and, trained on again, gives the update within 5 %, or its mean confidence is above
    0.9; else the claim with most records right by its own confidence.

    `knows` is what else the attacker knows, the fields of fedinv.attack.Knowledge: algorithm ("fedsgd", one step, or
    "fedavg"), lr, batch_size, epochs, momentum, weight_decay, optimizer ("adam", or its table; SGD if left out),
    proximal, schedule (of the local steps), class_weights, loss ("cross-entropy" unless the schema says otherwise),
    defenses (as tables, or as "top-k:keep=0.1"), auxiliary (a fedinv.attack.Sample). What is left out is not known.

    Returns a Claim: `records` float32 (k, inputs) with k up to `records`, `confidence` (k,) between 0 and 1, `labels`
    (k,), `mismatch` (relative distance of the update that the claim gives from the one seen), `verified` (k,), which
    records the attacker itself knows to be right, and `notes` that say which attack it was and what is missing.

    Raises RequestError naming the array, key or value that does not fit, RunError when an attack fails. The attack runs
    behind the same wall as a scenario's: it sees these arguments and nothing else of fedinv.

    >>> import fedinv, torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> person = torch.randn(1, 6, generator=generator)
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    >>> torch.nn.functional.cross_entropy(network(person), torch.tensor([1])).backward()
    >>> sent = [weight.detach() for weight in network.parameters()]
    >>> update = [-0.1 * weight.grad for weight in network.parameters()]
    >>> model = {"kind": "mlp", "hidden": [32]}
    >>> claim = fedinv.invert(update, sent=sent, model=model, records=1, algorithm="fedsgd", lr=0.1)
    >>> torch.allclose(claim.records, person, atol=1e-4), claim.labels.tolist()
    (True, [1])
    """
    from fedinv.attack import Observation
    from fedinv.report.terminal import bars
    from fedinv.runs import own_update

    network, columns = own_update.model_of(model), own_update.schema_of(schema)
    seen = own_update.exchange(update, sent, network, columns, records)
    known = own_update.knowledge(network, columns, records, knows)
    with bars(progress) as steps:
        return own_update.invert(Observation((0,), (seen,)), known, attack, seed, steps("attack"))


def available(group: Group) -> dict[str, str]:
    """List a group by name: "scenarios", "attacks", "defenses", "datasets", "deviations" or "detectors".

    Returns a one-line summary by name, sorted; plugins of other packages are among them. Raises RequestError for
    another group, naming the nearest.

    >>> import fedinv
    >>> print(fedinv.available("attacks")["labels"])
    Label counts of a batch from the last layer's update.
    """
    from fedinv import plugins
    from fedinv.storage import documents

    if group == "scenarios":
        return documents.summaries()
    if group not in GROUPS:
        raise RequestError(f"list {group}: there is no such list{nearest(str(group), GROUPS)}")
    return plugins.listing(group)


def changes(settings: Sequence[str]) -> dict[str, Any]:
    """Changes for `load`, or settings of an attack, from texts as ``training.lr=0.1``; values are TOML or bare words.

    Raises RequestError for a text without a key or "=".
    """
    from fedinv.storage import documents

    return dict(map(documents.parse_setting, settings))


def explain(name: str) -> "Explanation":
    """What an attack, a defense, a data set or a scenario's key is, from the same text as its documentation.

    `name` is a kind, a dotted key as "training.lr", or a kind and its setting as "top-k.keep". Raises RequestError
    naming the nearest.

    >>> import fedinv.api
    >>> fedinv.api.explain("training.lr").settings[0].default
    '0.05'
    """
    from fedinv.scenario.explanation import explanation

    return explanation(name)


def up(folder: Path, clients: int, *, tls: bool, say: Callable[[str], None]) -> tuple[str, int]:
    """Start a deployment on this machine: its address as host:port, and the number of its SuperNodes.

    `folder` is where it is noted down what was started, `say` is called with a line for each step. Raises RequestError
    where one is up already, RunError when a process does not come up.
    """
    from fedinv.engines.deployment import rehearsal
    from fedinv.storage import paths

    started = rehearsal.up(paths.folder(folder), clients, tls, say)
    return started.address, len(started.nodes)


def down(folder: Path) -> list[str]:
    """End what `up` noted down in this folder, and say what was ended."""
    from fedinv.engines.deployment import rehearsal
    from fedinv.storage import paths

    return rehearsal.down(paths.folder(folder))


def _document(scenario: "Scenario | str | Path | Mapping[str, Any]") -> tuple[dict[str, Any], str, Path]:
    """A scenario's document, what errors call it, and the folder that its relative paths begin at."""
    import copy

    from fedinv.scenario.scenario import Scenario
    from fedinv.storage import documents

    if isinstance(scenario, Scenario):
        return scenario.model_dump(mode="json", exclude_none=True), scenario.name, Path.cwd()
    if isinstance(scenario, Mapping):
        return copy.deepcopy(dict(scenario)), "scenario", Path.cwd()
    if not isinstance(scenario, (str, Path)):
        raise RequestError(
            f"scenario: is a {type(scenario).__name__}, give the name of a shipped one, a path, TOML text or a table"
        )
    if isinstance(scenario, str) and ("\n" in scenario or "=" in scenario) and not _is_path(scenario):
        return documents.loads(scenario, "scenario"), "scenario", Path.cwd()
    path = documents.find(str(scenario))
    return documents.read(path), str(path), path.parent


def _study_folder(declared: "Scenario", study: str, out: str | Path | None) -> Path:
    """The absolute path of a study's folder, by default runs/NAME-STUDY-N. Raises RequestError for data of no use."""
    from fedinv.runs import run as runs
    from fedinv.storage import paths

    runs.check(declared, "inline")
    return (paths.numbered(f"{declared.name}-{study}") if out is None else paths.folder(out)).absolute()


def holds(folder: str | Path, name: str) -> bool:
    """Whether this is a folder with a file of this name: that of a run, or of a finished one."""
    try:
        return (Path(folder) / name).is_file()
    except (OSError, ValueError):
        return False


def _is_path(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _written_out(document: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """The changes with defenses and attacks as tables, those first: a dotted key may then change one of them."""
    from fedinv.scenario.short_form import plugin
    from fedinv.studies.defense_sets import stack

    found: dict[str, Any] = {}
    if "defenses" in changed:
        stacked = [stack(one) if isinstance(one, str) else one for one in _listed(changed["defenses"], "defenses")]
        tables: list[Any] = []
        for one in stacked:
            tables += [one] if isinstance(one, Mapping) else one.defenses
            found |= {} if isinstance(one, Mapping) else changes(one.knobs)
        found["defenses"] = tables
    if "attacks" in changed:
        listed = document.get("attacks", ())
        own = {str(one.get("kind")): one for one in listed if isinstance(one, Mapping)}
        found["attacks"] = [
            plugin("attacks", one, own) if isinstance(one, str) else one
            for one in _listed(changed["attacks"], "attacks")
        ]
    return found | {key: value for key, value in changed.items() if key not in ("defenses", "attacks")}


def _listed(value: Any, key: str) -> Sequence[Any]:
    """A list of texts and tables; a single one is a list of itself."""
    found = [value] if isinstance(value, (str, Mapping)) else [] if value is None else value
    if not isinstance(found, Sequence) or not all(isinstance(one, (str, Mapping)) for one in found):
        raise RequestError(f"{key}: must be a list of tables or of texts such as 'KIND:key=value'")
    return found


def _texts(texts: Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _options(options: Mapping[str, Any] | None) -> Any:
    from dataclasses import fields

    from fedinv.engines import Options

    known = [field.name for field in fields(Options)]
    for name in options or {}:
        if name not in known:
            raise RequestError(f"options.{name}: no engine has such an option{nearest(name, known)}")
    return Options(**(options or {}))


@contextmanager
def _going_on(folder: Path) -> Iterator[None]:
    """Have what ends the block early say which folder can be gone on with."""
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(folder) from None
    except RunError as error:
        error.folder = None if isinstance(error, EndedError) else folder
        raise
