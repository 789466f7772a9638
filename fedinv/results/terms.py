"""Terms that several results share: whose an update is, and what a gate does with one that nothing can be said of."""

from typing import Literal

Whose = int | Literal["sum"]
"""Number of a client, or its node id; "sum" for the mean over several clients of whom none is seen alone."""

Answer = Literal["refuse", "send"]
"""What a gate does with an update of which nothing can be said: it stays at its site, or leaves it."""


def whose(one: Whose) -> str:
    """Whose an update is, as "client 3", within a sentence."""
    return "the sum of its clients" if one == "sum" else f"client {one}"
