"""What a server reads out of the updates of any app, without the truth: claims that verify themselves, and no other."""

from pydantic import BaseModel, ConfigDict

from fedinv.results.judged import Judged
from fedinv.results.terms import Answer, Whose


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UpdateVerdict(_Record):
    """The attack on one update."""

    round: int
    """Round of the update."""
    client: Whose
    """Number of the client, or its node id; "sum" for several behind secure aggregation."""
    members: int = 1
    """Number of clients whose mean the update is, 1 for a client's own."""
    claimed: int | None
    """Number of records that the client, or all of a sum, report, which may count batches; None without a report."""
    least: int | None
    """Least number of different records that the ranks of its layers leave possible; None where no rank bounds it."""
    layer: str
    """Layer whose inputs were attacked; empty where the network has none that can be."""
    inputs: str
    """What feeds that layer: "record", "affine of the record" or "features"."""
    attack: str
    """Kind of the attack whose claim stands; empty where none was verified."""
    verified: int
    """Records, or their features, that the attack read and verified without the truth."""
    told: int = 0
    """Records that an attack read and holds for right by checks of its own: at least the verified ones, and those that
    could not be verified, as one of them may be wrong or the mean of several. A gate counts them."""
    unread: str = ""
    """Why no attack here reads such updates, so that nothing is known of what they tell: no layer can be attacked, or
    an optimizer such as Adam has made all entries of one size. Empty where one does, and where noise hides records."""
    labels: dict[str, int]
    """Number of verified records by label, where they were read."""
    mismatch: float | None
    """Relative distance of the update from the one that the claim gives, trained on again; None without a claim."""
    cut_short: bool = False
    """Whether an attack ended because its time was used up, so that another one might read more."""
    unfinished: list[str] = []
    """Other limits of the attacks' own that ended one before it was done, as of records: beyond them it may read more.
    """
    seconds: float
    """Computing time of the attacks on it, in seconds."""
    notes: list[str]
    """Why nothing was read, or not all."""

    @property
    def read(self) -> int:
        """Number of records that count as read off it at a gate: a wrong refusal is safe, and a missed leak is not."""
        return max(self.verified, self.told)

    @property
    def of(self) -> int:
        """Number of records behind it, by the ranks, or as the client reports where no rank bounds them."""
        return max(self.least or 0, self.read) or self.claimed or 1

    @property
    def share(self) -> float:
        """Share of its records that count as read off it, 0 to 1."""
        return self.read / self.of


def refusal(one: UpdateVerdict, limit: float, unknown: Answer = "refuse", unfinished: Answer = "refuse") -> str:
    """The reason why an update may not leave its site; empty where at most a share `limit` of its records was read.

    `unknown` says what is done with one that nothing here reads, `unfinished` with one of which too little was read
    when the time was over.
    """
    if one.share > limit:
        sure = "" if one.verified == one.read else f", {one.verified} of them verified"
        share = f"({100 * one.share:.1f} %, limit {100 * limit:g} %{sure})"
        return f"{one.read} of {one.of} records can be read off it {share}"
    if one.unread and unknown == "refuse":
        return f"{one.unread}, so that nothing is known of what it tells: with unknown = send it may leave"
    if unfinished == "refuse" and limit < 1:  # a limit of 1 lets all be read
        if one.cut_short:
            return (
                "the attacks on it did not end in time: give them more seconds, or with unfinished = send it may leave"
            )
        if one.unfinished:
            return f"not attacked to the end ({one.unfinished[0]}): with unfinished = send it may leave"
    return ""


class AppVerdict(_Record):
    """The attack on all updates of a recording."""

    network: str
    """Name of the network."""
    updates: list[UpdateVerdict]
    """One for each update, in the order recorded."""
    skipped: list[str]
    """Updates that could not be attacked, and parts of the recording that could not be read, a line each."""
    not_attacked: list[str]
    """Layers of the network that no attack here applies to, of which nothing is known."""
    headline: str
    """The verdict in one sentence."""
    judged: list[Judged] = []
    """The claims against the truth, for each update whose records were given; empty where none were."""
