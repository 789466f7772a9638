"""fedinv's defenses and detectors as Flower mods for a ClientApp of your own, from a checkout as from the wheel."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fedinv.errors import RequestError

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from torch import Tensor, nn

    from fedinv.defense import Defense
    from fedinv.detector import Detector
    from fedinv.scenario.short_form import Group

    Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def defend(
    defense: "Defense | str | Mapping[str, Any]",
    *,
    seed: int | None,
    rounds: int | None = None,
    record: str | None = None,
    sends: Literal["weights", "update"] = "weights",
    buffers: Literal["keep", "reset"] | None = None,
) -> "Mod":
    """A Flower mod that passes what a ClientApp sends after training through one update-level defense.

    defense: a Defense, its kind, its table as ``{"kind": "top-k", "keep": 0.1}``, or that in short as
        ``"top-k:keep=0.1"``. Defenses that change training itself, or need a server of fedinv's, are refused. Several
        are several mods; Flower runs the last one listed first.
    seed: decides all that is drawn, along with the client, the round and how many of its messages were protected.
        Whoever knows it can take the noise off: a number is for simulations, None draws from the operating system.
    rounds: how many messages of one client are protected in the whole run; needed where noise is calibrated for an
        epsilon, and a message beyond that budget is answered by an error reply.
    record: name of the reply's ArrayRecord; needed where a reply has several.
    sends: whether the app replies with its new weights, as Flower's strategies expect, or with an update, local minus
        global.
    buffers: what becomes of BatchNorm's running statistics and of entries that are no floating point, which no defense
        changes: "keep" sends them as trained, "reset" as they were received (zeros in an update). A defense that
        claims privacy needs one of the two for a model that has such, as its claim covers the parameters alone;
        others keep them.

    Messages of the category "train" are protected, others pass untouched, and so do metrics and other records, which
    no claim covers. Arrays keep their types. A reply that cannot be protected is not sent: an error reply goes out
    that says why. Raises RequestError for an unknown defense or setting, and for a defense that is no mod.

    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[defend("clip-noise:clip=0.5:noise_multiplier=1", seed=7)])
    """
    from fedinv import roles

    as_mod: Callable[..., Mod] = roles.load("clients", "mods").as_mod
    return as_mod(defense_of(defense), seed=seed, rounds=rounds, record=record, sends=sends, buffers=buffers)


def vet(
    detectors: "Sequence[Detector | str | Mapping[str, Any]]",
    *,
    network: "nn.Module | None" = None,
    own: "tuple[Tensor, Tensor] | Callable[[Context], tuple[Tensor, Tensor]] | None" = None,
) -> "Mod":
    """A Flower mod that looks at the weights that a ClientApp is sent, before it trains on them.

    detectors: Detectors, their kinds, their tables as ``{"kind": "row-cosines", "action": "refuse"}``, or those in
        short as ``"row-cosines:action=refuse"``; `fedinv list detectors` names them. What is flagged is a line in
        Flower's log; with the action "refuse" the server gets an error reply of one line, and the app does not train.
    network: the app's network; without it detectors see the weights alone.
    own: inputs (n, ...) and labels (n,) of the site's own records, or what gives them for Flower's Context; without
        them, detectors that look at what the records do say nothing.

    Weights that are not finite, or none at all, are refused whatever is listed. Raises RequestError for an unknown
    detector or setting, and for an action that a mod cannot carry out.

    >>> from flwr.clientapp import ClientApp
    >>> app = ClientApp(mods=[vet(["row-cosines:action=refuse", "bias-size"])])
    """
    from fedinv import roles

    as_mod: Callable[..., Mod] = roles.load("clients", "vet_mod").as_mod
    return as_mod([_detector(one) for one in detectors], network, own)


def _detector(written: "Detector | str | Mapping[str, Any]") -> "Detector":
    """A detector from itself, its table, or a text. Raises RequestError naming the nearest right kind or setting."""
    from fedinv.detector import Detector
    from fedinv.scenario.short_form import made

    if isinstance(written, Detector):
        return written
    found: Detector = made("detectors", _table("detectors", written))
    return found


def defense_of(written: "Defense | str | Mapping[str, Any]") -> "Defense":
    """A defense from itself, its table, or a text such as ``top-k:keep=0.1``.

    Raises RequestError naming the nearest right kind, or the setting that is wrong.
    """
    from fedinv.defense import Defense
    from fedinv.scenario.short_form import made

    if isinstance(written, Defense):
        return written
    found: Defense = made("defenses", _table("defenses", written))
    return found


def _table(group: "Group", written: "str | Mapping[str, Any]") -> "Mapping[str, Any]":
    from fedinv.scenario.short_form import plugin

    if not isinstance(written, str):
        return written
    if "+" in written:
        one = group.removesuffix("s")
        raise RequestError(f"{one} {written!r}: a mod is one {one}, write a mod for each")
    return plugin(group, written)
