"""A server that knows the thresholds turns a deviation down in trainings of its own, until clients let it pass.

Each dial of a deviation is set by bisection on a logarithmic scale. What is reported is the best value found, in
another training, of a seed that is reported on.
"""

from dataclasses import dataclass, replace
from math import sqrt

from fedinv.deviation import Dial
from fedinv.studies.duel.cells import Found, scores_of
from fedinv.studies.duel.contestants import Contestant
from fedinv.studies.duel.detection import Panel

STEPS = 4
"""Values that are tried of a dial."""
REFUSED = 0.5
"""Share of flagged messages above which less is tried next."""


@dataclass(frozen=True)
class Tried:
    """What a value of a dial came to in a training of the server's own."""

    value: float
    """Value of the dial."""
    flagged: float
    """Share of messages flagged, 0 to 1."""
    past: float
    """Share of records times the share of messages not flagged, 0 to 1."""


@dataclass(frozen=True)
class Search:
    """The search for one dial of a deviation."""

    contestant: Contestant
    """The deviation that is turned down, and those that are carried out with it."""
    dial: Dial
    """The setting that is turned."""
    tried: tuple[Tried, ...] = ()
    """What was tried so far, in order."""

    @property
    def done(self) -> bool:
        """Whether nothing more is tried."""
        return len(self.tried) >= STEPS

    @property
    def value(self) -> float:
        """The value to try next; once all is tried, that with most records past the detectors, or with fewest flags."""
        if self.done:
            return max(self.tried, key=lambda one: (one.past, -one.flagged, one.value)).value
        passed = [one.value for one in self.tried if one.flagged <= REFUSED]
        refused = [one.value for one in self.tried if one.flagged > REFUSED]
        low, high = max([self.dial.least, *passed]), min([self.dial.most, *refused])
        return float(f"{sqrt(low * high):.2g}")

    def after(self, found: Found | None, panel: Panel) -> "Search":
        """The search with what its value came to; None where it did not run, which counts as refused."""
        flagged, past = 1.0, 0.0
        if found is not None:
            scores = scores_of([found], len(found.scores[0].scores) if found.scores else 0)
            flagged = float(panel.flags(scores).mean()) if len(scores) else 1.0
            read = found.records
            past = (1 - flagged) * (read.recovered.value or 0.0) if read is not None else 0.0
        return replace(self, tried=(*self.tried, Tried(self.value, flagged, past)))
