"""What every model declares of itself, so that nobody has to ask which one it is."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import nn

Shape = tuple[int, ...]
"""Shape of one record: (width,) for a table, (channels, height, width) for an image."""


class Architecture(BaseModel):
    """Base of a model: a frozen value whose fields are the keys of the scenario's [model], and `layers`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: ClassVar[bool] = False
    """Whether it reads images alone, and no rows of a table."""
    perceptron: ClassVar[bool] = False
    """Whether it is linear layers with one kind of activation between them, which read a record as a row of numbers."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, where the key `hidden` sets them; empty for a model without that key."""
        return ()

    @property
    def no_own_gradients(self) -> str | None:
        """Why a record has no gradient of its own in this network, and what to write instead; None where it has one."""
        return None

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order, for records of this shape. Raises ValueError for records it cannot read."""
        raise NotImplementedError
