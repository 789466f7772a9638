"""Everything that the gate touches of Flower's SuperNode and that Flower does not publish, for flwr 1.41.

Flower has no hook between an app and the SuperLink, so two functions of the SuperNode's loop are replaced: the one that
pulls a message, to keep what was sent down, and the one that pushes replies. Behind the second, nothing that the app
made leaves: a reply is read, judged, built anew and only then sent, and Flower's own way to push parts is closed.
"""

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from fedinv.errors import RequestError, plain
from fedinv.federation.reply_codes import REFUSED

VERSION = "1.41"
"""Flower's version that the names below are those of."""
LOOP = "flwr.supernode.start_client_internal"
"""Module of the SuperNode's loop."""
PULL, PUSH = "_pull_and_store_message", "_push_messages"
"""The two functions of the loop that are replaced."""
EXPECTED: Mapping[str, tuple[str, ...]] = {
    f"{LOOP}:{PULL}": (
        "state",
        "object_store",
        "node_config",
        "receive",
        "get_run",
        "get_fab",
        "pull_object",
        "confirm_message_received",
        "trusted_entities",
    ),
    f"{LOOP}:{PUSH}": ("state", "object_store", "send", "push_object"),
    "flwr.supercore.inflatable.inflatable_object:iterate_object_tree": ("tree",),
    "flwr.supercore.inflatable.inflatable_object:get_object_tree": ("obj",),
    "flwr.supercore.inflatable.inflatable_object:get_all_nested_objects": ("obj",),
    "flwr.supercore.inflatable.inflatable_object:no_object_id_recompute": (),
    "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents": (
        "object_id",
        "object_contents",
        "keep_object_contents",
        "objects",
    ),
    "flwr.supercore.inflatable.inflatable_utils:push_object_contents_from_iterable": (
        "object_contents",
        "push_object_fn",
        "max_concurrent_pushes",
    ),
    "flwr.supercore.object_store:ObjectStore.get": ("self", "object_id"),
    "flwr.supernode.cli.flower_supernode:flower_supernode": (),
}
"""Each name with its parameters, by module and name."""
POLL_SECONDS = 0.05
"""Seconds between two looks for the parts of a reply that the app's process has not delivered yet."""
CODES = frozenset(value for name, value in vars(ErrorCode).items() if name.isupper())
"""Flower's own error codes; an app's error with another one is sent on as that of an exception."""


class Refused(Exception):  # noqa: N818 - a verdict of the policy, no fault of the program
    """A reply that does not leave: `args[0]` is the rule, which the server is sent, and `detail` is for the site alone.

    The rule holds nothing that the app chose, not even a name, as that would be a way out.
    """

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule)
        self.detail = detail


@dataclass(frozen=True)
class Asked:
    """A message that the server sent down."""

    message: Message
    """The message as it was received, without its content."""
    content: RecordDict | None
    """Records that it brought; None where they could not be read."""


RAISED = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Flower's code of an app that raised."""


@dataclass(frozen=True)
class Limits:
    """What the parts of a reply may take before they are read."""

    bytes: float
    """Size of all parts together."""
    seconds: float
    """Time to wait for the app's process to deliver them."""


Judge = Callable[[Asked, Callable[[], Message]], RecordDict | Error]
"""Function that is given a message and what reads the app's reply to it, and returns what is sent in the reply's place.

What it returns is built by the site, no object of the app's. Where it raises, an error reply goes back."""


def check() -> None:
    """Raise RequestError, one line, where Flower is another version or one of the names is not as expected."""
    installed = version("flwr")
    if not installed.startswith(f"{VERSION}."):
        raise RequestError(
            f"flwr {installed} is installed, and the gate is written for {VERSION}: pip install 'flwr=={VERSION}.*'"
        )
    changed = faults()
    if changed:
        raise RequestError(
            f"flwr {installed} is not as the gate expects it, so that it would not hold: {'; '.join(changed)}: "
            f"reinstall it with: pip install --force-reinstall 'flwr=={VERSION}.*'"
        )


def faults() -> tuple[str, ...]:
    """One phrase for each private name that is missing, takes other parameters, or that the loop does not call."""
    found = []
    for path, parameters in EXPECTED.items():
        module, _, name = path.partition(":")
        try:
            place: Any = import_module(module)
            for part in name.split("."):
                place = getattr(place, part)
            there = tuple(inspect.signature(place).parameters)
        except (ImportError, AttributeError, TypeError, ValueError):
            found.append(f"{path} is not there")
            continue
        if there != parameters:
            takes, expected = (", ".join(names) or "nothing" for names in (there, parameters))
            found.append(f"{path} takes {takes} in place of {expected}")
    loop: Any = import_module(LOOP)
    called = getattr(getattr(loop, "start_client_internal", None), "__code__", None)
    for name in (PULL, PUSH):
        if called is None or name not in called.co_names:
            found.append(f"{LOOP}:start_client_internal does not call {name}")
    return tuple(found)


def install(judge: Judge, limits: Limits) -> None:
    """Put the judge between the app and the SuperLink in this process, for as long as it runs.

    Raises RequestError as `check`.
    """
    check()
    loop: Any = import_module(LOOP)
    waiting: dict[str, Asked] = {}
    setattr(loop, PULL, _keeping(getattr(loop, PULL), waiting))
    setattr(loop, PUSH, _judging(getattr(loop, PUSH), waiting, judge, limits))


def start(arguments: list[str]) -> None:
    """Run Flower's SuperNode in this process with its own command-line arguments, until it is ended."""
    import sys

    from flwr.supernode.cli.flower_supernode import flower_supernode

    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def _keeping(pull: Callable[..., int | None], waiting: dict[str, Asked]) -> Callable[..., int | None]:
    """The function that pulls a message, which also keeps it: the app deletes its parts as soon as it has them."""
    from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

    def pull_and_keep(**named: Any) -> int | None:
        parts: dict[str, bytes] = {}
        received: list[tuple[Message, Any]] = []

        def receive() -> Any:
            found = named["receive"]()
            if found is not None:
                received.append(found)
                for one in iterate_object_tree(found[1]):  # parts of earlier messages are not pulled again
                    content = named["object_store"].get(one.object_id)
                    if content:
                        parts[one.object_id] = content
            return found

        def pull_object(run: int, object_id: str) -> bytes:
            content: bytes = named["pull_object"](run, object_id)
            parts[object_id] = content
            return content

        run = pull(**{**named, "receive": receive, "pull_object": pull_object})
        for message, tree in received if run is not None else ():
            waiting[message.metadata.message_id] = Asked(message, _content(tree.object_id, parts))
        return run

    return pull_and_keep


def _content(object_id: str, parts: dict[str, bytes]) -> RecordDict | None:
    """The records of a message from its parts; None where they cannot be read."""
    try:
        return _inflated(object_id, parts).content
    except Exception:  # the judge refuses what answers a message that could not be read
        return None


def _judging(push: Callable[..., None], waiting: dict[str, Asked], judge: Judge, limits: Limits) -> Callable[..., None]:
    """The function that pushes replies, which sends nothing but what the judge returned."""
    from flwr.supercore.inflatable.inflatable_utils import push_object_contents_from_iterable

    def push_judged(**named: Any) -> None:
        store = named["object_store"]

        def send(message: Message, tree: Any, seconds: float) -> tuple[set[str], str]:
            asked = waiting.pop(message.metadata.reply_to_message_id, None)
            if asked is None:  # no message to reply to: nothing is sent at all
                raise RuntimeError("the site's policy: it answers no message that is open")
            try:
                answer = judge(asked, lambda: _reply(message, tree, store, limits))
                made, parts, own = _made(answer, asked.message)
            except Exception:  # a judge that fails lets nothing through
                made, parts, own = _made(Error(REFUSED, "the site's policy failed"), asked.message)
            wanted, session = named["send"](made, own, seconds)

            def push_part(object_id: str, content: bytes) -> None:
                named["push_object"](made.metadata.run_id, session, object_id, content)

            push_object_contents_from_iterable([(key, parts[key]) for key in wanted], push_part)
            return set(), session  # so that Flower pushes none of the app's own parts

        push(**{**named, "send": send, "push_object": _closed})

    return push_judged


def _closed(*_: object) -> None:
    raise RuntimeError("the site's policy: parts of the app's reply are never pushed")


def _made(answer: RecordDict | Error, to: Message) -> tuple[Message, dict[str, bytes], Any]:
    """The message that is sent, its parts by their ids, and the tree of them.

    Its metadata follow from those of the message that it replies to, so that an app hides nothing in them.
    """
    from flwr.supercore.inflatable.inflatable_object import (
        get_all_nested_objects,
        get_object_tree,
        no_object_id_recompute,
    )

    made = Message(answer, reply_to=to)
    with no_object_id_recompute():
        made.metadata.__dict__["_message_id"] = made.object_id
        parts = {key: one.deflate() for key, one in get_all_nested_objects(made).items()}
        return made, parts, get_object_tree(made)


def _reply(message: Message, tree: Any, store: Any, limits: Limits) -> Message:
    """The app's reply with its records, once all its parts are there. Raises Refused where they do not come."""
    from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

    if message.has_error():
        return message
    parts, left, ends = dict[str, bytes](), limits.bytes, time.monotonic() + limits.seconds
    for one in iterate_object_tree(tree):
        if one.object_id in parts:
            continue
        while not (content := store.get(one.object_id)):
            if time.monotonic() > ends:
                raise Refused("the reply's parts did not arrive in time", f"{limits.seconds:g} s: reply.wait_seconds")
            time.sleep(POLL_SECONDS)
        parts[one.object_id] = content
        left -= len(content)
        if left < 0:
            raise Refused("the reply is too large", f"above {limits.bytes / 1e6:g} MB: raise reply.megabytes")
    return _inflated(tree.object_id, parts)


def _inflated(object_id: str, parts: dict[str, bytes]) -> Message:
    from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

    found = inflate_object_from_contents(object_id, parts, keep_object_contents=True)
    if not isinstance(found, Message):
        raise Refused("the reply is no message", plain(type(found).__name__))
    return found
