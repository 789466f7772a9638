"""Whose an update is: one client's, or the sum of several that a secure aggregation lets the server see."""

from typing import Literal

Whose = int | Literal["sum"]
"""Number of a client, or its node id; "sum" for the mean over several clients of whom none is seen alone."""


def whose(one: Whose) -> str:
    """Whose an update is, as "client 3", within a sentence."""
    return "the sum of its clients" if one == "sum" else f"client {one}"
