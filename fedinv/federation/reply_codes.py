"""Error codes of fedinv's own in Flower's replies."""

DECLINED = 1001
"""Code of a client's error reply that says it stays out of the round: its privacy budget is spent."""
HALTED = 1002
"""Code of the reply that a secure aggregation notes down for a client whose round came to no sum."""
GONE = 1003
"""Code of the reply that the server notes down for a client whose node vanished."""
