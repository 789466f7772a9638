"""Do not hold a record's signal against the weights: random units were left out of it, and the record was not."""

UNSTEADY = True
