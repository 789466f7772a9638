"""Functions of `import fedinv` on the updates of an app of one's own; nothing heavy is imported before it is needed."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import Context
    from torch import Tensor, nn

    from fedinv.recording.mod import Mod
    from fedinv.results.app_verdict import AppVerdict
    from fedinv.results.leak_map import LeakMap
    from fedinv.results.terms import Answer
    from fedinv.runs.own_apps.targets import Given
    from fedinv.task.foreign.training.losses import Objective
    from fedinv.task.foreign.training.optimizer import MakeOptimizer
    from fedinv.task.schema import Schema

Options = Mapping[str, Any]
"""Values of a training's parameters, by name."""


def leak_map(
    folder: str | Path,
    network: "str | nn.Module | None" = None,
    *,
    project: str | Path | None = None,
    example: "str | Tensor | None" = None,
    update: int = 0,
    loss: "str | Objective | None" = None,
    optimizer: "str | MakeOptimizer | None" = None,
    train: "str | Callable[..., Any] | None" = None,
    train_with: str | Options | None = None,
) -> "LeakMap":
    """Map what one update tells, layer by layer, without the truth: what feeds a layer, its rank, which attack applies.

    `folder` is a recording or a run. A recording needs the network: a torch module, or where its factory is, as
    "app.task:Net", imported from the folder `project`, by default the current one. `example` is a batch of inputs, or
    where one is; without it records are made up. `update` is the place of the update in the order recorded. What is
    known of the clients' training may be given, see `attack_recording`.

    Raises RequestError for a network that cannot be had or that the arrays do not fit, naming which differ.

    >>> import fedinv, numpy, torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    >>> sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    >>> torch.nn.functional.cross_entropy(network(torch.randn(4, 6)), torch.tensor([0, 1, 1, 0])).backward()
    >>> back = {name: sent[name] - 0.1 * weight.grad for name, weight in network.named_parameters()}
    >>> for name, arrays in (("sent", sent), ("back", back)):
    ...     numpy.savez(f"{name}.npz", **{one: tensor.numpy() for one, tensor in arrays.items()})
    >>> recording = fedinv.import_files("sent.npz", ["back.npz"], out="runs/mapped")
    >>> found = fedinv.leak_map("runs/mapped", network)
    >>> found.records, sorted(found.layers[0].applies)
    (4, ['exact', 'row-space'])
    """
    from fedinv.errors import RequestError
    from fedinv.recording import folder as recordings
    from fedinv.runs.own_apps import leak_map as maps
    from fedinv.runs.own_apps import targets
    from fedinv.runs.own_apps.map_of_run import map_of_run
    from fedinv.storage import paths

    place = paths.folder(folder)
    if not recordings.holds(place):
        return map_of_run(place, update)
    found, skipped = targets.targets(recordings.read(place))
    if not 0 <= update < len(found):
        why = f"; {skipped[0]}" if skipped else ""
        held = f"{len(found)} update{'s' if len(found) != 1 else ''}"
        raise RequestError(f"{folder}: holds {held} to map, there is no number {update}{why}")
    given = _given(network, project, example, training=(loss, optimizer, train, train_with))
    target, how = found[update], targets.how_trained(given)
    probed = targets.probed_target(given.network, given.example, target, how)
    return maps.leak_map(probed, target.client, target.claimed, how)


def attack_recording(
    folder: str | Path,
    network: "str | nn.Module | None" = None,
    *,
    project: str | Path | None = None,
    example: "str | Tensor | None" = None,
    seconds: float = 30.0,
    progress: Callable[[float], None] = lambda share: None,
    truth: "str | Path | Tensor | None" = None,
    knows: "str | Path | Tensor | Schema | Mapping[str, Any] | None" = None,
    out: str | Path | None = None,
    loss: "str | Objective | None" = None,
    optimizer: "str | MakeOptimizer | None" = None,
    train: "str | Callable[..., Any] | None" = None,
    train_with: str | Options | None = None,
) -> "AppVerdict":
    """Read what a server could read off the recorded updates of an app, and keep what verifies itself.

    Arguments are those of `leak_map`; `seconds` bounds the rounds of each attack on each update. Claims are verified
    without the truth: trained on again they explain the update to 1 %, or, of a part of the records, each passes checks
    that wrong ones fail; others are not kept. Records go to claims.npz, the verdict to verdict.json, in `out`, by
    default in the recording's folder; with `out` there is a page of all of it too, report.html.

    `truth` are the records that were trained on, as the `records` of `probe`, with the label last; of several updates
    it names the one of each record. The verdict then also says which claims were right, beside a guess (`judged`).

    A server mostly knows which inputs are categories and the range of numbers, and who knows reads more: `knows` is a
    schema, or records of the same kind as the network's inputs, given as those of `probe`, that need not be trained on.

    The training is described by `loss`, a function of outputs and targets or a name, as "cross-entropy" with keys
    class_weights and label_smoothing, "bce", "bce-with-logits", "mse"; by `optimizer`, a function of parameters or a
    name with torch's keys, as "sgd:lr=0.1,momentum=0.9"; or by `train`, the app's own local training of a network and a
    loader, all as they are or as where they are, "app.task:train". `train_with` are values of its other parameters, and
    `batch`, the records of a local batch, by default all; without `train` they are `epochs` and `batch`. Of what is not
    given, cross-entropy is taken, binary of one output, and one step of plain SGD of any length.

    Raises RequestError as `leak_map` does, and where the training cannot be had or does not fit the network.

    >>> import fedinv
    >>> fedinv.attack_recording("runs/nowhere", "app.task:Net")
    Traceback (most recent call last):
    fedinv.errors.RequestError: ...
    """
    from dataclasses import replace

    from fedinv.recording import folder as recordings
    from fedinv.runs.own_apps import reading, targets
    from fedinv.runs.own_records import pages
    from fedinv.runs.own_records import truth as truths
    from fedinv.storage import paths

    place = paths.given(folder)
    if out is not None:
        paths.folder(out)  # before anything is attacked
    recording = recordings.read(place)
    given = _given(network, project, example, seconds, (loss, optimizer, train, train_with))
    found, skipped = targets.targets(recording)
    known = None if truth is None else truths.read(truth, given, len(found), project)
    given = given if knows is None else replace(given, schema=truths.schema_of_records(knows, given, project))
    verdict, claims = reading.attacked(given, found, skipped, progress)
    if known is not None:
        verdict = truths.held_against(verdict, given, found, known, claims)
    reading.write(place if out is None else paths.folder(out), verdict, claims)
    if out is not None:
        mapped = pages.first_map(given, found)
        pages.of_verdict(paths.folder(out), verdict, mapped, claims, truths.layout_of(given).shape)
    return verdict


def gate(
    network: "str | nn.Module | Callable[[], nn.Module]",
    *,
    limit: float = 0.0,
    knows: "Tensor | Callable[[Context], Any] | Schema | Mapping[str, Any] | None" = None,
    example: "str | Tensor | None" = None,
    seconds: float = 2.0,
    unknown: "Answer" = "refuse",
    unfinished: "Answer" = "refuse",
    project: str | Path | None = None,
) -> "Mod":
    """A Flower mod that attacks each update before it is sent, and refuses it where too much can be read off it.

    The server then gets an error reply with the reason in one line. `network` is the app's network, what makes it, or
    where that is, as "app.task:Net", imported from the folder `project`; `example` is a batch of its inputs where their
    shape cannot be guessed. More than the share `limit` of an update's records must not be readable. The attacks find
    more where they know what a server may know, which inputs are categories and the range of numbers: `knows` is a
    schema, or the site's own records as the network's inputs (n, d), or what gives them for Flower's Context. They end
    after `seconds` of computing.

    `unknown` says what is done with an update that no attack here reads, as its network has no layer for one or its
    optimizer is Adam or the like, `unfinished` with one of which too little was read when the time was over: "refuse"
    or "send". A gate that fails refuses. Put it first in the list of mods: it judges what leaves the client.

    Raises RequestError for a limit or a time that cannot be.

    >>> import fedinv
    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[fedinv.gate("app.task:Net", limit=0.01)])
    """
    from fedinv.errors import RequestError
    from fedinv.runs.own_apps import gate as gates
    from fedinv.runs.own_update import schema_of

    if not 0 <= limit <= 1:
        raise RequestError(f"limit: is {limit:g}, must be a share from 0 to 1")
    if not 0 < seconds < float("inf"):
        raise RequestError(f"seconds: is {seconds:g}, must be a time above 0")
    for name, answer in (("unknown", unknown), ("unfinished", unfinished)):
        if answer not in ("refuse", "send"):
            raise RequestError(f"{name}: is {answer!r}, must be 'refuse' or 'send'")
    rule = gates.Rule(limit, seconds, unknown, unfinished)
    known = schema_of(knows) if isinstance(knows, Mapping) else knows
    return gates.GateMod(gates.Source(network, example, None if project is None else Path(project)), rule, known)


def _given(
    network: Any,
    project: str | Path | None,
    example: Any,
    seconds: float = 30.0,
    training: tuple[Any, Any, Any, Any] = (None, None, None, None),
) -> "Given":
    """The network, an example and the training, loaded where they are named. Raises RequestError where there is none.

    `training` are loss, optimizer, train and train's values.
    """
    from fedinv.errors import RequestError
    from fedinv.runs.own_apps.targets import Given
    from fedinv.task.foreign import factory
    from fedinv.task.foreign.training.training import read_training

    where = None if project is None else Path(project)
    if network is None:
        raise RequestError("--network: is needed for a recording, name what makes the network, as app.task:Net")
    made = factory.load_network(network, where) if isinstance(network, str) else network
    batch = factory.load_example(example, where) if isinstance(example, str) else example
    return Given(made, batch, seconds, training=read_training(*training, project=where))
