"""The tap at a client: a Flower mod that records what the client is sent and what leaves it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from flwr.app import Context, Message
from flwr.common.constant import ErrorCode

from fedinv.recording import folder as reading
from fedinv.recording.recorder import Recorder, chosen, is_training, round_of, say
from fedinv.storage import paths

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


class TapMod:
    """A mod that records to one folder; Ray may send it to another process, which then opens the folder for itself."""

    def __init__(self, folder: Path, rounds: frozenset[int] | None) -> None:
        """Record these rounds, None for all; the folder is resolved where the first message is handled."""
        self._folder, self._only = folder, rounds
        self._lock, self._made, self._failed = Lock(), dict[str, Recorder](), False

    def __reduce__(self) -> tuple[type["TapMod"], tuple[Path, frozenset[int] | None]]:
        """What another process makes the mod of."""
        return TapMod, (self._folder, self._only)

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Record a message, let the app and the mods behind this one handle it, and record the reply."""
        found = self._sent(message, context)
        if found is None:
            return call_next(message, context)
        recorder, key = found
        try:
            reply = call_next(message, context)
        except Exception as error:
            recorder.raised(key, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, error)
            raise
        recorder.received(key, reply)
        return reply

    def _sent(self, message: Message, context: Context) -> tuple[Recorder, str] | None:
        """Record a message; None where it was not kept."""
        try:
            recorder, named = self._recorder(), round_of(message)
            round_ = _counted(recorder.folder, message) if named is None else named
            key = recorder.sent(message, round_, context) if self._only is None or round_ in self._only else None
        except Exception as error:  # the folder may be another one where the message is handled
            if not self._failed:
                self._failed = True
                say(error)
            return None
        return None if key is None else (recorder, key)

    def _recorder(self) -> Recorder:
        with self._lock:
            if "it" not in self._made:
                self._made["it"] = Recorder(self._folder, "client")
            return self._made["it"]


def tap_mod(folder: str | Path, rounds: Iterable[int] | int | None = None) -> Mod:
    """A mod that records; see `fedinv.tap_mod`."""
    return TapMod(paths.folder(folder), chosen(rounds))


def _counted(folder: Path, message: Message) -> int:
    """The round of a message that names none: the number of trainings that this node was asked for, this one too.

    Counted in the recording itself, as a deployment starts a process for each message.
    """
    before = reading.trainings(folder, message.metadata.run_id, message.metadata.dst_node_id)
    return max(1, before + is_training(message))
