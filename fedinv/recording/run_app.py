"""Runs an unmodified Flower app in this process, without Ray or a daemon, and records what crosses its wire."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID

from fedinv.errors import RequestError, RunError, plain
from fedinv.recording import app as apps
from fedinv.recording import folder as reading
from fedinv.recording.folder import Recording
from fedinv.recording.grid import RUN_ID, LocalGrid
from fedinv.recording.recorder import round_of
from fedinv.recording.tap import tap
from fedinv.storage import paths

Tell = Callable[[float, str], None]
"""Function that is called after each reply with the share of the rounds done, 0 where nobody knows, and a line."""
ROUNDS = ("num-server-rounds", "num_server_rounds", "num-rounds", "num_rounds", "rounds")
"""Keys under which apps configure their rounds."""


@dataclass
class Tally:
    """What was seen of a running app, for its progress."""

    rounds: int | None
    """Rounds that the app's configuration names."""
    tell: Tell
    round: int = 0
    replies: int = 0
    errors: int = 0

    def add(self, message: Message, reply: Message) -> None:
        """Count a reply and show how far the app is."""
        self.round = max(self.round, round_of(message) or 0)
        self.replies += 1
        self.errors += reply.has_error()
        share = (self.round - 1) / self.rounds if self.rounds and self.round else 0.0
        errors = f", {self.errors} of them errors" if self.errors else ""
        self.tell(min(1.0, share), f"round {self.round or '?'}, {self.replies} replies{errors}")


def record(
    app: str | Path,
    out: Path | None,
    nodes: int,
    overrides: Sequence[str] = (),
    tell: Tell = lambda share, now: None,
) -> Recording:
    """Run the app of a folder with so many nodes and record it in `out`, by default runs/NAME-N.

    Returns what was recorded. Raises RequestError for an app that cannot be loaded and for a folder that holds
    anything, RunError where the app fails, what was recorded until then being kept.
    """
    if nodes < 1:
        raise RequestError(f"nodes: must be 1 or more, not {nodes}")
    declared = apps.read(app, overrides)
    out = (paths.numbered(declared.name) if out is None else out).absolute()
    if out.is_dir() and any(out.iterdir()):
        raise RequestError(f"{out}: is not empty; name another folder")
    named = next((declared.config[key] for key in ROUNDS if key in declared.config), None)
    tally = Tally(named if isinstance(named, int) else None, tell)
    with apps.loaded(declared) as (server, client):
        grid = tap(LocalGrid(client, nodes, dict(declared.config), tally.add), out)
        try:
            server(grid, Context(RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), dict(declared.config)))
        except RunError:
            raise
        except (Exception, SystemExit) as error:  # the app's own fault
            told = f"{type(error).__name__}: {plain(error, 500)}{apps.place(error, declared.root)}"
            raise RunError(f"{declared.root}: the app failed: {told}; {out} holds what was recorded") from error
    tell(1.0, "done")
    found = reading.read(out)
    if not found.exchanges:
        raise RunError(f"{declared.root}: the app ended without a message to any client")
    return found
