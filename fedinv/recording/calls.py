"""What `import fedinv` offers on recordings; nothing heavy is imported before it is needed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from fedinv.recording.folder import Recording
    from fedinv.recording.mod import Mod
    from fedinv.recording.run_app import Tell


def tap(
    grid: "Grid", folder: str | Path, rounds: Iterable[int] | int | None = None, clients: int | None = None
) -> "Grid":
    """The Grid of a Flower ServerApp, recording what it carries: one line in an app of your own.

    Whatever strategy and engine: arrays sent to and received from each client, configurations, metrics and errors of
    every message go to FOLDER/wire. `rounds` are those to record, None for all; `clients` is how many clients of each
    round, the first ones that are sent a message; None for all. A folder that holds a recording is gone on with.

    Nothing of the training is changed, and nothing that goes wrong with the recording stops it: a full disk is said
    once in Flower's log, and the training goes on. The folder is relative to the current one of the process that runs
    the ServerApp, in a deployment that of the SuperLink; the log says where it is.

    Raises RequestError where an argument or the folder's path cannot be used, before anything is sent.

    >>> import fedinv
    >>> from flwr.app import ArrayRecord
    >>> from flwr.serverapp import ServerApp
    >>> from flwr.serverapp.strategy import FedAvg
    >>> app = ServerApp()
    >>> @app.main()
    ... def main(grid, context):
    ...     arrays = ArrayRecord(network().state_dict())
    ...     FedAvg().start(grid=fedinv.tap(grid, "runs/mine"), initial_arrays=arrays, num_rounds=3)
    """
    from fedinv.recording import tap as taps

    return taps.tap(grid, folder, rounds, clients)


def tap_mod(folder: str | Path, rounds: Iterable[int] | int | None = None) -> "Mod":
    """A Flower mod that records at a client what `tap` records at the server, with the client's partition-id.

    As the first of ``ClientApp(mods=[...])`` it records what leaves the client; as the last one, what the app itself
    replied before the other mods changed it. `rounds` are those to record, None for all. Clients of one machine may
    share a folder. The arrays of a message have the same digest here and at the server. As with `tap`, a fault never
    stops the training.

    Raises RequestError where an argument or the folder's path cannot be used.

    >>> import fedinv
    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[fedinv.tap_mod("runs/site")])
    """
    from fedinv.recording import mod

    return mod.tap_mod(folder, rounds)


def record(
    app: str | Path,
    *,
    nodes: int = 4,
    out: str | Path | None = None,
    run_config: Sequence[str] | str = (),
    tell: "Tell" = lambda share, now: None,
) -> "Recording":
    """Run a Flower app in this process, with no line of it changed, and record what crosses its wire.

    `app` is the folder that `flwr run` is given, `nodes` the number of clients, with partition-ids from 0. `run_config`
    changes keys of the app's configuration as ``flwr run --run-config`` does: "num-server-rounds=2 lr=0.1", or the path
    of a TOML file. `out` is the recording's folder, by default runs/NAME-N. Neither Ray nor a daemon is started: the
    clients train one after the other. The app is imported and run as it is, so run only one that you trust.

    `tell` is called after each reply with the share of the rounds done and a line on it.

    Raises RequestError for an app that cannot be loaded, RunError where it fails; what was recorded is kept.

    >>> import fedinv
    >>> fedinv.record("not-an-app")
    Traceback (most recent call last):
    fedinv.errors.RequestError: ...not-an-app: is no Flower app: it has no pyproject.toml; ...
    """
    from fedinv.recording import run_app
    from fedinv.storage import paths

    overrides = [run_config] if isinstance(run_config, str) else list(run_config)
    return run_app.record(app, None if out is None else paths.folder(out).absolute(), nodes, overrides, tell)


def recorded_copy(app: str | Path, to: str | Path, *, out: str | Path) -> Path:
    """Write a copy of a Flower app that records itself on any engine, for ``flwr run``; returns the copy's folder.

    `app` is the app's folder, which stays as it is, and `to` the copy's, which must not exist. The copy has one module
    more, around the app's two halves, and names it in its pyproject.toml. The server records to OUT/server, the clients
    to OUT/clients, each on the machine that runs it, where fedinv must be installed.

    Raises RequestError for a folder that is no app and where something is at `to`.

    >>> import fedinv
    >>> fedinv.recorded_copy("not-an-app", "copy", out="runs/mine")
    Traceback (most recent call last):
    fedinv.errors.RequestError: ...not-an-app: is no Flower app: it has no pyproject.toml; ...
    """
    from fedinv.recording import app as apps
    from fedinv.recording import wrapped
    from fedinv.storage import paths

    target = paths.folder(to).absolute()
    wrapped.copy(apps.read(app), target, paths.folder(out).absolute())
    return target


def import_files(
    sent: str | Path,
    received: Sequence[str | Path],
    *,
    out: str | Path,
    round: int = 1,
    records: int | None = None,
    names: Sequence[str] | None = None,
) -> "Recording":
    """Make a recording of files: the arrays that a server sent, and those that each client sent back.

    Files may be .safetensors, .npz, or what torch.save wrote of a state_dict, also within a checkpoint; nothing in them
    is run. Clients are numbered from 0 in the order of their files, and may all be said to have reported `records`
    examples. They may have sent a part of the arrays alone, as a head's; where their files have no names, or others,
    `names` says which of the arrays sent they are, in the files' order. Another round goes into the same folder by
    another `round`.

    Raises RequestError naming the file: for one that would run code or holds no arrays, and for one whose arrays are
    not those that were sent, with the names that differ.

    >>> import fedinv, numpy
    >>> numpy.savez("sent.npz", weight=numpy.zeros((2, 3)), bias=numpy.zeros(2))
    >>> numpy.savez("back.npz", weight=numpy.ones((2, 3)), bias=numpy.ones(2))
    >>> recording = fedinv.import_files("sent.npz", ["back.npz"], out="runs/imported", records=8)
    >>> update = recording.updates[0]
    >>> update.round, update.node, update.claimed_records, list(update.received)
    (1, 0, 8, ['weight', 'bias'])
    """
    from fedinv.recording import files

    return files.record(sent, received, out, round, records, names)


def open_recording(folder: str | Path) -> "Recording":
    """Read a recording: every message that was kept with its reply, as frozen values.

    Raises RequestError for a folder that holds none; what of it was cut short or damaged is named in `skipped`.

    >>> import fedinv
    >>> fedinv.open_recording("runs/no-recording")
    Traceback (most recent call last):
    fedinv.errors.RequestError: runs/no-recording: holds no recording; make one with ...
    """
    from fedinv.recording import folder as reading

    return reading.read(folder)
