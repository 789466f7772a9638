"""Functions of `import fedinv` that take records of one's own; nothing heavy is imported before it is needed."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedinv.task.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fedinv.results.probing import ProbeVerdict
    from fedinv.runs.own_apps.calls import Options
    from fedinv.task.foreign.training.losses import Objective
    from fedinv.task.foreign.training.optimizer import MakeOptimizer


@one_thread()
def probe(
    folder: str | Path,
    network: "str | nn.Module | None" = None,
    *,
    records: Any = None,
    others: Any,
    truth: Any = None,
    members: bool = False,
    update: int | None = None,
    project: str | Path | None = None,
    example: "str | Tensor | None" = None,
    out: str | Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
    loss: "str | Objective | None" = None,
    optimizer: "str | MakeOptimizer | None" = None,
    train: "str | Callable[..., Any] | None" = None,
    train_with: "str | Options | None" = None,
) -> "ProbeVerdict":
    """Ask whether records of one's own were trained on, by what crossed the wire alone: membership inference.

    `folder` is a recording or a run; network, project and example are those of `leak_map`, and a run needs none.
    `records` are asked about; `others`, of the same kind and one file or several, surely were not trained on: the
    threshold is what 1 % of them exceed, and with 1000 or more also what 0.1 % do. Both are a .csv or .npz file, the
    place of a function that gives the network's inputs, as "app.task:mine", or a tensor (n, ...). With `members` the
    records are known to be behind the update, the share found is the true positive rate, and a recording of several
    updates needs `update`, the place of that one, from 0; without it all updates are probed. `truth` in place of
    `records` are those that were trained on, as `attack_recording` takes them: the members of each update by its place.

    What is known of the clients' training may be given, see `attack_recording`: weight decay is then taken out, which
    else fills all row spaces. A run's own is known.

    The verdict goes to probe.json and each record's score to probe.csv, in `out`, by default the folder itself; with
    `out` there is a page too, report.html, with what `attack_recording` left there. Raises RequestError as `leak_map`
    does, and for records that cannot be used, in one line that quotes no cell.

    >>> import fedinv, numpy, torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    >>> sent, mine = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.randn(4, 6)
    >>> torch.nn.functional.cross_entropy(network(mine), torch.tensor([0, 1, 1, 0])).backward()
    >>> back = {name: sent[name] - 0.1 * weight.grad for name, weight in network.named_parameters()}
    >>> for name, arrays in (("before", sent), ("after", back)):
    ...     numpy.savez(f"{name}.npz", **{one: tensor.numpy() for one, tensor in arrays.items()})
    >>> recording = fedinv.import_files("before.npz", ["after.npz"], out="runs/probed")
    >>> found = fedinv.probe("runs/probed", network, records=mine, others=torch.randn(200, 6))
    >>> found.updates[0].at[0].found
    4
    """
    from fedinv.errors import RequestError
    from fedinv.recording import folder as recordings
    from fedinv.runs.own_apps.calls import _given
    from fedinv.runs.own_apps.targets import Given
    from fedinv.runs.own_records import pages, updates
    from fedinv.runs.own_records import probe as probing
    from fedinv.storage import paths

    if (records is None) == (truth is None):
        raise RequestError("--records: name either your records by it, or those that were trained on by --truth")
    place, where = paths.folder(folder), None if project is None else Path(project)
    if recordings.holds(place):
        training = (loss, optimizer, train, train_with)
        opened = updates.of_recording(place, _given(network, project, example, training=training))
    else:
        opened = updates.of_run(place)
    members = members or truth is not None
    asked, notes = probing.asked(opened.layout, records if truth is None else truth, others, members, where)
    chosen = updates.pick(opened, update, alone=members and asked.update is None)
    chosen = [one for one in chosen if len(asked.of(one).records)]
    found, scores = probing.probe_all(opened, chosen, asked, notes, progress)
    probing.write(place if out is None else paths.folder(out), found, scores)
    if out is not None:
        known = Given(opened.network, opened.example)
        pages.of_probe(paths.folder(out), found, pages.first_map(known, opened.targets))
    return found
