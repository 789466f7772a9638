"""What a gate does with an update."""

from typing import Literal

Answer = Literal["refuse", "send"]
"""Whether an update of which nothing can be said stays at its site or leaves it."""
