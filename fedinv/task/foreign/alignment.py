"""Matches arrays that crossed the wire to a network's parameters, whatever wrapper has renamed them."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fedinv.errors import RequestError

WRAPPERS = ("module.", "_module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
"""Prefixes that wrappers (DataParallel, Opacus, torch.compile) and projects put before parameters' names."""
NAMED = 3
"""Names that a message lists at most."""


@dataclass(frozen=True)
class Aligned:
    """Which of the arrays is which of a network's tensors."""

    names: Mapping[str, str]
    """Name on the wire by the network's own name, in the network's order."""
    missing: tuple[str, ...]
    """Parameters and buffers of the network that were not on the wire."""
    unknown: tuple[str, ...]
    """Arrays on the wire that are none of the network's."""
    note: str
    """Way in which names were matched; empty where they were the very same."""

    def take(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The arrays by the network's own names, those that are there."""
        return {own: arrays[name] for own, name in self.names.items() if name in arrays}


def align(arrays: Mapping[str, Tensor], network: nn.Module) -> Aligned:
    """Match arrays by name, without wrappers' prefixes, or where all shapes agree by order.

    Arrays of a part of the network alone, as of a head, match by name. Raises RequestError naming the first parameters
    that differ where nothing fits.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in arrays.items()}
    best: tuple[int, dict[str, str], str] = (0, {}, "")
    for prefix in ("", *WRAPPERS):
        for theirs in (_without(given, prefix), _with(given, prefix)):
            found = {name: theirs[name] for name in own if name in theirs and given[theirs[name]] == own[name]}
            if len(found) > best[0]:
                best = (len(found), found, f"prefix {prefix!r} of a wrapper" if prefix else "")
    count, found, note = best
    if count < len(given):
        for names, what in ((list(own), "order"), ([n for n, _ in network.named_parameters()], "order, no buffers")):
            if [own[name] for name in names] == list(given.values()):
                found, note = dict(zip(names, given, strict=True)), f"by {what} and shape"
                break
    if not found or any(name in own and own[name] != given[name] for name in set(given) - set(found.values())):
        raise RequestError(_differences(own, given))
    taken = set(found.values())
    return Aligned(
        names={name: found[name] for name in own if name in found},
        missing=tuple(name for name in own if name not in found),
        unknown=tuple(name for name in given if name not in taken),
        note=note,
    )


def _without(given: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): name for name in given}


def _with(given: Mapping[str, tuple[int, ...]], prefix: str) -> dict[str, str]:
    return {prefix + name: name for name in given}


def _differences(own: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> str:
    """One line that names what does not fit."""
    shaped = [f"{n} is {given[n]}, the network's {own[n]}" for n in own if n in given and given[n] != own[n]]
    if shaped:
        return f"the arrays do not fit the network: {'; '.join(shaped[:NAMED])}"
    missing, unknown = list(own)[:NAMED], list(given)[:NAMED]
    return (
        f"the arrays do not fit the network: it has {len(own)}, as {', '.join(missing) or 'none'}, and on the wire are "
        f"{len(given)}, as {', '.join(unknown) or 'none'}"
    )
