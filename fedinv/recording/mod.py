"""The tap at a client: a Flower mod that records what the client is sent and what leaves it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from flwr.app import Context, Message
from flwr.common.constant import ErrorCode

from fedinv.recording import folder as reading
from fedinv.recording.recorder import Recorder, chosen, is_training, round_of
from fedinv.storage import paths

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def tap_mod(folder: str | Path, rounds: Iterable[int] | int | None = None) -> Mod:
    """A mod that records; see `fedinv.tap_mod`."""
    only, path = chosen(rounds), paths.folder(folder)
    lock, made = Lock(), dict[str, Recorder]()

    def recorder() -> Recorder:
        # made where messages are handled: Ray and SuperNodes do so in other processes than the one that loads the app
        with lock:
            if "it" not in made:
                made["it"] = Recorder(path, "client")
            return made["it"]

    def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        keeper = recorder()
        named = round_of(message)
        round_ = _counted(keeper.folder, message) if named is None else named
        key = keeper.sent(message, round_, context) if only is None or round_ in only else None
        if key is None:
            return call_next(message, context)
        try:
            reply = call_next(message, context)
        except Exception as error:
            keeper.raised(key, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, error)
            raise
        keeper.received(key, reply)
        return reply

    return mod


def _counted(folder: Path, message: Message) -> int:
    """The round of a message that names none: the number of trainings that this node was asked for, this one too.

    Counted in the recording itself, as a deployment starts a process for each message.
    """
    before = reading.trainings(folder, message.metadata.run_id, message.metadata.dst_node_id)
    return max(1, before + is_training(message))
