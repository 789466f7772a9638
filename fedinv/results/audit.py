"""audit.json as typed values: a claimed epsilon and the lower bounds measured with canaries."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["FAIL", "not contradicted"]


class Audit(BaseModel):
    """The content of audit.json: the claimed epsilon and the measured lower bounds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    """Name of the scenario."""
    unit: Literal["example", "client"]
    """Unit that epsilon protects, and that a canary is: one record, or all of a client."""
    claimed: float
    """Claimed epsilon, which is audited."""
    quoted: bool
    """True: the claim is the scenario's `audit.claimed_epsilon`; False: it is the ledger's."""
    ledger: float | None
    """Epsilon by the ledger; None where it claims none."""
    delta: float
    """Delta at which all epsilons are stated, a probability."""
    canaries: int
    """Number of canaries."""
    lower_bounds: dict[str, float]
    """Measured lower bounds on epsilon, by method; all hold together with 95 % confidence."""
    right: dict[str, tuple[int, int]]
    """Number of right guesses and of all guesses, by method."""
    verdict: Verdict
    """Outcome: "FAIL" where a lower bound exceeds the claim, else "not contradicted"."""
    says: str
    """Verdict in one sentence."""
