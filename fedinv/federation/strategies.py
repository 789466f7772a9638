"""What the server does with a round's mean update: a strategy of Flower's, by name and settings."""

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field

from fedinv.strict import Strict
from fedinv.task.optimizers.short_form import by_kind


class FedAvg(Strict):
    """Federated averaging: the new model is the old one plus the mean update (McMahan et al. 2017, algorithm 1)."""

    kind: Literal["fedavg"] = "fedavg"
    """Selects federated averaging."""


class FedAvgM(Strict):
    """Federated averaging with server momentum (Hsu, Qi, Brown 2019, section 4.3)."""

    kind: Literal["fedavgm"] = "fedavgm"
    """Selects federated averaging with momentum at the server."""
    server_learning_rate: float = Field(default=1.0, gt=0)
    """Length of the server's step over that of its velocity; 1 takes all of it."""
    server_momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the previous rounds' velocity that is added to the mean update; 0 is FedAvg."""


class FedAdam(Strict):
    """Adam on the mean update (Reddi et al. 2021, algorithm 2), as Flower has it, with corrected bias."""

    kind: Literal["fedadam"] = "fedadam"
    """Selects Adam at the server."""
    eta: float = Field(default=0.01, gt=0)
    """Learning rate of the server: size of a step in each weight, whatever the updates' size."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    """Share of the running mean of updates that is kept at each round."""
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    """Share of the running mean of their squares that is kept at each round."""
    tau: float = Field(default=1e-3, gt=0)
    """Number that is added to the root of the mean square: smaller ones adapt more."""


class FedYogi(Strict):
    """Yogi on the mean update (Reddi et al. 2021, algorithm 2): its mean square changes more slowly than Adam's."""

    kind: Literal["fedyogi"] = "fedyogi"
    """Selects Yogi at the server."""
    eta: float = Field(default=0.01, gt=0)
    """Learning rate of the server: size of a step in each weight, whatever the updates' size."""
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    """Share of the running mean of updates that is kept at each round."""
    beta_2: float = Field(default=0.99, ge=0, lt=1)
    """How slowly the mean square follows the updates' squares, 0 to 1."""
    tau: float = Field(default=1e-3, gt=0)
    """Number that is added to the root of the mean square: smaller ones adapt more."""


Table = FedAvg | FedAvgM | FedAdam | FedYogi
"""The tables of the strategies."""
KINDS: Mapping[str, type[Strict]] = {one.model_fields["kind"].default: one for one in get_args(Table)}
"""The strategies by kind."""
AnyStrategy = Annotated[Annotated[Table, Field(discriminator="kind")], by_kind(KINDS)]
"""Any of the strategies, as a scenario writes it: `"fedadam"` or `{ kind = "fedadam", eta = 0.03 }`."""
FEDAVG = FedAvg()
"""Federated averaging, the strategy where none is written."""
