"""The base class of models, by which shared code learns what it needs without naming a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fedinv.task.networks.beginning import Beginning
from fedinv.task.schema import Schema

Shape = tuple[int, ...]
"""Shape of one record: (width,) for a table, (channels, height, width) for an image, (length, size of the vocabulary)
for a text."""


class Architecture(BaseModel):
    """Base of a model: a frozen value whose fields are the keys of the scenario's [model], and `layers`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: ClassVar[bool] = False
    """True: the model reads images alone; False: it reads rows of a table, and images as rows of pixels."""
    texts: ClassVar[bool] = False
    """True: the model reads texts, rows of token ids, and nothing else; False: it cannot read them."""
    perceptron: ClassVar[bool] = False
    """True: the model consists of linear layers with one kind of activation between them, so that clients can be
    trained in one stacked tensor and analytic attacks apply."""

    encodes: ClassVar[bool] = False
    """True: its first linear layer is fed by a known affine map of the encoded record, as `beginning` says, so that
    attacks on the spans of its update apply."""

    def fitted(self, schema: Schema) -> Self:
        """The same model with what it must know of the records' columns beyond their shape; itself where that is none.

        Every network of a scenario is built from the fitted model. Raises ValueError for columns it cannot read.
        """
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer, where the key `hidden` sets them; empty for a model without that key."""
        return ()

    @property
    def no_own_gradients(self) -> str | None:
        """Reason why a record has no gradient of its own in this network, with a remedy; None where it has one."""
        return None

    @property
    def as_perceptron(self) -> "Architecture":
        """The same network as a perceptron that is built here, where it is one of which only running it shows that."""
        return self

    @property
    def no_perceptron(self) -> str | None:
        """Reason why attacks that need a perceptron are not run, as a clause; None where each says so itself."""
        return None

    @property
    def sizes(self) -> tuple[Shape, int] | None:
        """Shape of a record and number of outputs, where the first and the last parameter do not say them; else None.

        Raises ValueError where it cannot be run.
        """
        return None

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files of code of the user's own that make the network; none for a model that is built here."""
        return ()

    def renamed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names of `as_perceptron`."""
        return dict(weights)

    def beginning(
        self, weights: Mapping[str, Tensor], update: Mapping[str, Tensor], steps: int, records: int
    ) -> Beginning | None:
        """The network's first two linear layers at these weights, as functions of a record, where that is known.

        `update` is what came back of `records` records after `steps` local steps. None for a perceptron, which attacks
        read by its parameters' names, and for networks of which nothing of the kind is known.
        """
        return None

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order, for records of this shape. Raises ValueError for records it cannot read."""
        raise NotImplementedError
