"""What was claimed of an app's update, held against the records that were behind it: the ordinary verdict."""

from pydantic import BaseModel, ConfigDict

from fedinv.results.run import Images, Rate
from fedinv.results.terms import Whose


class Judged(BaseModel):
    """The claims on one update against the truth, beside what verified itself without it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    update: int
    """Place of the update in the order recorded, from 0."""
    round: int
    """Round of the update."""
    client: Whose
    """Number of the client, or its node id; "sum" for several behind secure aggregation."""
    records: int
    """Number of true records that were given for it."""
    inputs: str
    """What is judged, which feeds the attacked layer: "record", "affine of the record" or "features"; empty where the
    network has no layer that can be attacked."""
    attack: str
    """Kind of the attack whose claims are judged; empty where none claimed anything."""
    claimed: int
    """Number of claimed records, verified or not."""
    right: int
    """Claims that have every field of a true record right, each true record counted once."""
    verified: int
    """Claims that verified themselves without the truth."""
    verified_right: int
    """Verified claims that have every field of a true record right."""
    labels_right: int | None
    """Right claims whose label is that of their record; None where no labels were claimed or given."""
    fields: Rate | None
    """Share of right fields, the best guess standing in for records without a claim; None without a judged layer."""
    recovered: Rate | None
    """Share of records with every field right, beside the guess."""
    exact: Rate | None
    """Share of records with every field right to a thousandth of a standard deviation, beside the guess."""
    images: Images | None = None
    """Likeness of images; None where records are none."""
    notes: list[str]
    """How the truth was read, or why nothing was judged."""
