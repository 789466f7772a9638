"""audit.json as typed values: a claimed epsilon beside what canaries measured."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["FAIL", "not contradicted"]


class Audit(BaseModel):
    """audit.json: what is claimed beside what was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    unit: Literal["example", "client"]
    claimed: float
    quoted: bool
    """Whether the claim is the scenario's own, and not the ledger's."""
    ledger: float | None
    """What the ledger says."""
    delta: float
    canaries: int
    lower_bounds: dict[str, float]
    """By method; both hold together with 95 % confidence."""
    right: dict[str, tuple[int, int]]
    """Right guesses of all, by method."""
    verdict: Verdict
    says: str
