"""Error codes in Flower's replies that fedinv defines."""

DECLINED = 1001
"""Error code of a client that leaves a round out because its privacy budget is spent."""
HALTED = 1002
"""Error code recorded for each client of a round in which secure aggregation failed to produce a sum."""
GONE = 1003
"""Error code recorded for a client whose node disconnected."""
DROPPED = 1004
"""Error code of a client that drops out of a round because the scenario has it so (`federation.dropout`)."""
REFUSED = 1005
"""Error code of a reply that a site's policy keeps from leaving."""
DISTRUSTED = 1006
"""Error code of a client that refuses a round because of what the server sent it."""
