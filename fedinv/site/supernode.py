"""The command `fedinv-supernode`: Flower's SuperNode, in whose process a site's policy decides what leaves."""

import argparse
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import torch
from flwr.app import Error, Message, RecordDict

from fedinv.errors import RequestError, RunError, plain
from fedinv.federation.reply_codes import REFUSED
from fedinv.recording.recorder import named_round
from fedinv.runs.own_apps.gate import Rule
from fedinv.runs.own_apps.targets import Given
from fedinv.site import events, flower, policy
from fedinv.site.leak import leak_of
from fedinv.site.reply import Arrays, Read, vetted
from fedinv.storage import paths
from fedinv.task.foreign.encoded import schema_of_inputs
from fedinv.task.foreign.factory import load_example, load_network

LOG = logging.getLogger("flwr")
"""Flower's log, in which the SuperNode says what it does."""
FAILED = "the site's policy failed"
"""Rule that is given where judging a reply raised: nothing is known of the reply, so it does not leave."""
ADDED = """
fedinv adds to Flower's SuperNode, outside of the app's process:
  - what leaves is built anew of the names, shapes, types and metrics that --policy allows, and all else is refused
  - [update] clips what was trained and adds noise, [gate] refuses it where records can be read off it
  - a line of the policy's log for each message
Say what a policy demands: fedinv-supernode --policy site.toml --check. Guide: docs/site.md."""
"""End of the help, behind Flower's own."""
WITHHELD = "the app failed; its text stays at the site"
"""Reason that the server is sent in place of an app's own, which may quote records."""


@dataclass(frozen=True)
class Site:
    """A policy with what was loaded for it."""

    rules: policy.Policy
    log: Path
    """The file of events."""
    read: Read | None = None
    """Function that attacks an update; None where the policy has no gate."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the SuperNode until it is ended; 2 for a request that is wrong, which is said in one line."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, others = parser().parse_known_args(given)
    try:
        if own.help:
            print(f"{parser().format_help()}\nAll other options are flower-supernode's:\n", flush=True)  # noqa: T201
            flower.check()
            try:
                flower.start(["--help"])
            finally:  # Flower ends the process after its own help
                print(ADDED)  # noqa: T201
            return 0
        if own.policy is None:
            raise RequestError("--policy: is missing, name the site's policy: --policy site.toml")
        flower.check()
        found = site(Path(own.policy))
        for line in (*summary(found), *_warnings(others)):
            print(f"fedinv-supernode: {line}", flush=True)  # noqa: T201
        if own.check:
            return 0
        rules = found.rules.reply
        limits = flower.Limits(rules.megabytes * 1e6, rules.wait_seconds)
        flower.install(lambda asked, reply: judge(found, asked, reply), limits)
    except (RequestError, RunError) as error:
        print(f"fedinv-supernode: {error}", file=sys.stderr)  # noqa: T201
        return 2
    flower.start(others)
    return 0


def site(path: Path) -> Site:
    """Read a policy and load what it names. Raises RequestError, one line, that names the key and what to write."""
    rules = policy.read(path)
    home = paths.given(str(path)).absolute().parent
    log = home / paths.given(rules.log)
    if log.is_dir():
        raise RequestError(f"{path}: log: {log} is a folder, name a file")
    events.read(log)
    return Site(rules, log, None if rules.gate is None else _reader(path, home, rules.gate))


def summary(found: Site) -> list[str]:
    """What the policy demands, a line each, for people."""
    rules, update, before = found.rules, found.rules.update, _noises(found)
    arrays = "those that were sent down" if rules.arrays.allow is None else f"{len(rules.arrays.allow)} by name"
    noise = f"noise of {update.noise_multiplier * (update.clip or 0):g}" if update.noise_multiplier else "no noise"
    limit = "none, as there is no [gate]"
    if rules.gate is not None:
        limit = f"at most {100 * rules.gate.limit:g} % of an update's records may be read off it"
    return [
        f"answered: {', '.join(rules.reply.messages) or 'nothing'}; arrays: {arrays}; "
        f"metrics: {', '.join(rules.metrics) or 'none'}",
        f"update: {'not clipped' if update.clip is None else f'clipped to {update.clip:g}'}, {noise}",
        f"gate: {limit}",
        f"log: {found.log}{f', {len(before)} noised updates so far' if before else ''}",
    ]


def _warnings(others: Sequence[str]) -> list[str]:
    """What the SuperNode's own options leave open, a line each."""
    given = " ".join(others).replace("=", " ").split()
    if "process" in [value for option, value in pairwise(given) if option == "--isolation"]:
        return []
    return [
        "warning: the app runs as this process's user and can reach around the policy; "
        "close that with --isolation process and a user of its own for the app, see docs/site.md"
    ]


def judge(found: Site, asked: flower.Asked, reply: Callable[[], Message]) -> RecordDict | Error:
    """What is sent in a reply's place: its vetted records, or an error whose reason holds nothing that the app chose.

    It is in the log before it leaves. Whatever is raised on the way is a refusal.
    """
    begun = time.monotonic()
    answer: RecordDict | Error
    try:
        answer, event = _decided(found, asked, reply)
    except flower.Refused as refused:
        answer, event = _refused(str(refused), refused.detail)
    except Exception as error:  # a policy that fails closes; the error's text may quote what the app sent
        answer, event = _refused(FAILED, f"{type(error).__name__} in {_place(error)}")
    metadata = asked.message.metadata
    line = events.Event(
        run=metadata.run_id,
        round=_round(asked),
        kind=plain(metadata.message_type, 40),
        seconds=round(time.monotonic() - begun, 3),
        **event,
    )
    try:
        events.append(found.log, line)
    except RunError as error:
        LOG.error("fedinv: refused: the site's log: %s", error)
        return _refused("the site's log cannot be written", "")[0]
    said = f"{line.kind} {line.verdict}{f': {line.why}' if line.why else ''} ({line.seconds:.2f} s)"
    LOG.log(logging.INFO if line.verdict == "accepted" else logging.WARNING, "fedinv: %s", said)
    return answer


Fields = dict[str, Any]
"""Fields of an event."""


def _decided(found: Site, asked: flower.Asked, reply: Callable[[], Message]) -> tuple[RecordDict | Error, Fields]:
    """The answer to a reply and the fields of its event. Raises Refused."""
    said = reply()
    if said.has_error():
        return _error(found, said.error)
    if asked.content is None:
        raise flower.Refused("the message that it replies to could not be read")
    update = found.rules.update
    after = None
    if update.delta is not None:
        after = events.spent([*_noises(found), update.noise_multiplier], update.delta)
    training = asked.message.metadata.message_type.partition(".")[0] == "train"
    if training and update.epsilon is not None and after is not None and after > update.epsilon:
        spent = f"epsilon {after:.3g} with another update, update.epsilon is {update.epsilon:g}"
        raise flower.Refused("the site's privacy budget is spent", spent)
    passed = vetted(found.rules, asked.message.metadata.message_type, asked.content, said.content, found.read)
    fields: Fields = {"verdict": "accepted", "share": passed.share}
    if passed.noised:
        fields |= {"noise_multiplier": update.noise_multiplier, "epsilon": after}
    return passed.records, fields


def _error(found: Site, error: Error) -> tuple[Error, Fields]:
    """An app's own error: one of Flower's codes, and its text only where the policy sends texts on."""
    code = error.code if error.code in flower.CODES else flower.RAISED
    text = plain(error.reason) if found.rules.reply.error_texts else WITHHELD
    return Error(code, text), {"verdict": "error", "why": f"the app failed with Flower's code {code}"}


def _refused(rule: str, detail: str) -> tuple[Error, Fields]:
    why = f"{rule}: {detail}" if detail else rule
    return Error(REFUSED, f"refused by the site's policy: {rule}"), {"verdict": "refused", "why": why}


def _round(asked: flower.Asked) -> int | None:
    """Round that a message names; None where it names none or could not be read."""
    return None if asked.content is None else named_round(asked.content, asked.message.metadata.group_id)


def _place(error: Exception) -> str:
    """The file and line that raised, without the text, which may quote what the app sent."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _noises(found: Site) -> list[float]:
    """Noise multiplier of each noised update that left, by the log, those of earlier processes too."""
    return [one.noise_multiplier for one in events.read(found.log) if one.noise_multiplier is not None]


def _reader(path: Path, home: Path, rules: policy.GateRules) -> Read:
    """The function that attacks an update. Raises RequestError where the network or its example cannot be loaded."""
    app = home / paths.given(rules.app)
    if not app.is_dir():
        raise RequestError(f"{path}: gate.app: {app} is no folder, name the one that {rules.network} is imported from")
    try:
        network = load_network(rules.network, app)
        example = None if rules.example is None else load_example(rules.example, app)
        own = None if rules.knows is None else load_example(rules.knows, app, "--knows")
    except RequestError as error:
        raise RequestError(f"{path}: [gate] {str(error).removeprefix('--')}") from None
    try:
        schema = None if own is None else schema_of_inputs(own)
    except ValueError as error:
        raise RequestError(f"{path}: [gate] knows: {rules.knows} gives {error}") from None
    given = Given(network, example, schema=schema)
    rule = Rule(rules.limit, rules.seconds, rules.unknown, rules.unfinished)

    def read(sent: Arrays, leaving: Arrays, claimed: int | None) -> float | str:
        return leak_of(_tensors(sent), _tensors(leaving), given, claimed, rule)

    return read


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def parser() -> argparse.ArgumentParser:
    """The command's own options; all others are Flower's."""
    found = argparse.ArgumentParser(
        prog="fedinv-supernode",
        usage="fedinv-supernode --policy site.toml [--check] [any option of flower-supernode]",
        description="Flower's SuperNode, in whose process a site's policy decides what leaves.",
        add_help=False,
        allow_abbrev=False,
    )
    found.add_argument("--policy", metavar="FILE", help="the site's policy, a TOML file")
    found.add_argument("--check", action="store_true", help="say what the policy demands, and start nothing")
    found.add_argument("-h", "--help", action="store_true", help="show this, and Flower's own options")
    return found


def command() -> NoReturn:
    """Run `main` and end the process with its status."""
    raise SystemExit(main())
