"""The leak map of one update: what each layer of the network tells of the records, without any truth."""

from pydantic import BaseModel, ConfigDict

from fedinv.results.terms import Whose

FEW = 4
"""Layers that the headline names at most."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LayerLeak(_Record):
    """One layer of the network, and what its update shows."""

    name: str
    """Name of the layer in the network; empty for the network's own parameters."""
    kind: str
    """Name of its class."""
    shape: tuple[int, ...]
    """Shape of its weight; empty where none was on the wire."""
    fed: str
    """What feeds it: "record", "affine of the record", "features" or "unknown"."""
    gate: str
    """What the way back does to its outputs: "relu", "smooth", "last" and the like, or "unknown"."""
    places: int
    """How often its weight is used in one record."""
    units_per_record: float
    """Output units for each record behind the update, by the ranks or as the client reports; 0 where neither is known,
    or no weight was on the wire."""
    rank: int
    """Rank of its update above rounding."""
    most: int
    """Largest rank that the update could have."""
    separable: int | None
    """Directions of inputs that can be separated, at most one for each record and place; None where the rank bounds
    nothing."""
    applies: dict[str, str]
    """What each attack that applies would read, by the attack's kind, those first that mostly succeed; that
    one does is not said."""
    why_not: dict[str, str]
    """Why the others do not apply, by kind."""
    tells: str = ""
    """Facts that the layer's arrays show to whoever looks at them, without an attack."""

    @property
    def unknown(self) -> bool:
        """Whether nothing is known of what it leaks: no attack here applies to it, which does not make it safe."""
        return bool(self.shape) and not self.applies and not self.tells and self.rank > 0


class LeakMap(_Record):
    """What one update of a network tells, layer by layer."""

    network: str
    """Name of the network."""
    round: int
    """Round of the update."""
    client: Whose
    """Client that sent it, by its number or node id; "sum" for several behind secure aggregation."""
    claimed: int | None
    """Number of records that the client, or all of a sum, report, which may count batches; None without a report."""
    records: int | None
    """Least number of different records that the ranks leave possible; None where no rank bounds it."""
    layers: list[LayerLeak]
    """The layers in the order in which they run."""
    notes: list[str]
    """What else was noticed: arrays without a layer, layers that mix records, names that were matched."""
    at_once: list[str] = []
    """Kinds of the attacks that suit the network and look at all layers at once; known of a run of fedinv's alone."""

    @property
    def headline(self) -> str:
        """What can be attacked, and what nothing is known of, in one sentence."""
        open_ = {kind for one in self.layers for kind in one.applies} | set(self.at_once)
        unknown = [one.name or self.network for one in self.layers if one.unknown]
        said = f"{', '.join(sorted(open_))} can be run on it" if open_ else "no attack here can be run on it"
        if unknown:
            more = f" and {len(unknown) - FEW} more" if len(unknown) > FEW else ""
            said += f"; of {', '.join(unknown[:FEW])}{more} nothing is known, which is not to say that nothing leaks"
        return f"{said[0].upper()}{said[1:]}."
