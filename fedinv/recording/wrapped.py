"""An app's two halves around those of another app, which record and change nothing: for engines that load apps."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import tomli_w
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedinv.errors import RequestError, RunError, plain
from fedinv.recording.app import FILE, AppFolder, Setting
from fedinv.recording.mod import tap_mod
from fedinv.recording.tap import tap
from fedinv.storage import documents, files

MODULE = "fedinv_recorded"
"""Name of the module that a recorded copy of an app has beside the app's own."""

LARGEST_BYTES = 10 * 1024**2
"""Size of an app, zipped, up to which Flower ships it."""


class RecordedServerApp(ServerApp):
    """A ServerApp that runs another one on a tapped Grid."""

    def __init__(self, app: ServerApp, folder: Path, config: Mapping[str, Setting] | None = None) -> None:
        """Record to `folder`; `config` is the run configuration where the engine has none."""
        super().__init__()
        self._inner, self._folder, self._settings = app, folder, config or {}

    def __call__(self, grid: Grid, context: Context) -> None:
        """Run the app."""
        self._inner(tap(grid, self._folder), configured(context, self._settings))


class RecordedClientApp(ClientApp):
    """A ClientApp that runs another one and records what reaches and leaves it."""

    def __init__(self, app: ClientApp, folder: Path, config: Mapping[str, Setting] | None = None) -> None:
        """Record to `folder`; `config` is the run configuration where the engine has none."""
        super().__init__()
        self._inner, self._mod, self._settings = app, tap_mod(folder), config or {}

    def __call__(self, message: Message, context: Context) -> Message:
        """Run the app on a message."""
        own = configured(context, self._settings)
        reply = self._mod(message, own, self._inner)
        context.state = own.state  # which the app may have replaced
        return reply


def configured(context: Context, settings: Mapping[str, Setting]) -> Context:
    """The context with its run configuration filled up with what it lacks; Flower lets nobody change its own."""
    config = {**settings, **context.run_config}
    return Context(context.run_id, context.node_id, context.node_config, context.state, config)


def copy(app: AppFolder, to: Path, folder: Path) -> None:
    """Write a copy of an app's folder that records to `folder`, for `flwr run` on any engine; the app stays as it is.

    The server's recording is in `folder`/server, the clients' in `folder`/clients, each on the machine that runs them,
    where fedinv must be installed. Raises RequestError where something is at `to`, RunError where it cannot be written.
    """
    if to.exists():
        raise RequestError(f"{to}: is there already; name a folder that is not")
    if to.absolute().is_relative_to(app.root):
        raise RequestError(f"{to}: lies within the app itself; name a folder outside of it")
    document = documents.read(app.root / FILE)
    declared = document["tool"]["flwr"]["app"]
    if "fab-include" in declared:
        declared["fab-include"] = [*declared["fab-include"], f"{MODULE}.py"]
    declared["components"] |= {
        "serverapp": f"{MODULE}:server_app",
        "clientapp": f"{MODULE}:client_app",
    }
    lines = [
        '"""Written by fedinv: the app beside it, recorded."""',
        "from pathlib import Path",
        "from pkgutil import resolve_name",
        "from fedinv.recording.wrapped import RecordedClientApp, RecordedServerApp",
        f"server_app = RecordedServerApp(resolve_name({app.server!r}), Path({str(folder / 'server')!r}))",
        f"client_app = RecordedClientApp(resolve_name({app.client!r}), Path({str(folder / 'clients')!r}))",
    ]
    try:
        shutil.copytree(app.root, to, ignore=_unshipped)
    except (OSError, shutil.Error) as error:
        raise RunError(f"{to}: cannot be written ({plain(error)})") from error
    files.write(to / FILE, tomli_w.dumps(document))
    files.write(to / f"{MODULE}.py", "\n".join(lines) + "\n")


def _unshipped(folder: str, names: list[str]) -> set[str]:
    """Names of what Flower does not ship with an app: hidden files, and those that are larger than it takes."""
    return {
        name
        for name in names
        if name.startswith(".") or name == "__pycache__" or (Path(folder) / name).stat().st_size > LARGEST_BYTES
    }
