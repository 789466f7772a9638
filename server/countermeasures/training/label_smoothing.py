"""Nothing to adapt to: smoothed labels change the size of each record's signal and hide no record."""

NOTHING_TO_ADAPT_TO = "the records are trained on as they are, and attacks that are told nothing read them all the same"
"""Why knowing of the defense helps no attack."""
