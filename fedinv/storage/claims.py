"""Files of what attacks claimed and answered, so that a stopped run resumes and a finished one is judged again."""

from pathlib import Path

from pydantic import Field

from fedinv.attack import EXPLAINS, Answer, Claim
from fedinv.storage import files
from fedinv.strict import Strict


def write(path: Path, claim: Claim | Answer, seconds: float) -> None:
    """Store an attack's claim or answer on one observation and the seconds it took, as one atomic write."""
    facts: dict[str, object] = {"notes": list(claim.notes), "seconds": seconds}
    if isinstance(claim, Answer):
        files.write_tensors(path, {"scores": claim.scores}, facts)
        return
    tensors = {"records": claim.records, "confidence": claim.confidence}
    tensors |= {"labels": claim.labels} if claim.labels is not None else {}
    tensors |= {"fields": claim.fields} if claim.fields is not None else {}
    tensors |= {"checked": claim.checked} if claim.checked is not None else {}
    tensors |= {"owners": claim.owners} if claim.owners is not None else {}
    facts |= {"mismatch": claim.mismatch, "bound": claim.bound, "unfinished": list(claim.unfinished)}
    files.write_tensors(path, tensors, facts)


class _Facts(Strict):
    """What a file says beside its tensors."""

    notes: tuple[str, ...]
    seconds: float = Field(ge=0)
    mismatch: float | None = None
    bound: float = Field(default=EXPLAINS, ge=0, le=1)
    unfinished: tuple[str, ...] = ()


def read(path: Path) -> tuple[Claim | Answer, float]:
    """Read a stored claim or answer, equal in every field, and the seconds that the attack took.

    Raises RunError naming a file that is missing or damaged.
    """
    tensors, facts = files.read_checked(path, _Facts)
    if "scores" in tensors:
        return Answer(tensors["scores"], facts.notes), facts.seconds
    if not {"records", "confidence"} <= set(tensors):
        raise files.damaged(path, ValueError("it holds neither records nor scores"))
    claim = Claim(
        records=tensors["records"],
        confidence=tensors["confidence"],
        labels=tensors.get("labels"),
        mismatch=facts.mismatch,
        bound=facts.bound,
        notes=facts.notes,
        fields=tensors.get("fields"),
        checked=tensors.get("checked"),
        unfinished=facts.unfinished,
        owners=tensors.get("owners"),
    )
    return claim, facts.seconds
