"""A variational bottleneck in front of a network's last layer: part of the model, as server and clients share it."""

import torch
from torch import Tensor, nn

WIDTH = 256
"""Numbers that pass through it where the scenario does not say."""
BETA = 1e-3
"""Weight of the divergence in the loss, as in Scheliga, Maeder, Seeland 2022 (PRECODE), section 4.2."""


class Bottleneck(nn.Module):
    """Maps (n, width) to as many numbers through a random draw of few: mean + std * normal, in training.

    Alemi, Fischer, Dillon, Murphy 2017 (Deep variational information bottleneck), as Scheliga et al. 2022 place it.
    Without a generator, and in evaluation, the mean is passed on.
    """

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.encode = nn.Linear(width, 2 * narrow)
        self.decode = nn.Linear(narrow, width)
        self.generator: torch.Generator | None = None
        self.divergence: Tensor | float = 0.0
        """From the standard normal, of the last batch, in nats; the mean over its records."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Draw and decode."""
        mean, spread = self.encode(hidden).chunk(2, -1)
        std = torch.nn.functional.softplus(spread)
        if not self.training or self.generator is None:
            self.divergence = 0.0
            return self.decode(mean)  # type: ignore[no-any-return]
        self.divergence = (std.square() + mean.square() - 1 - 2 * (std + 1e-12).log()).sum(-1).mean() / 2
        noise = torch.randn(mean.shape, generator=self.generator)
        return self.decode(mean + std * noise)  # type: ignore[no-any-return]


def penalty(network: nn.Module) -> Tensor | float:
    """What a network's bottlenecks add to the loss of the batch that passed last."""
    total: Tensor | float = 0.0
    for layer in network.modules():
        if isinstance(layer, Bottleneck):
            total = total + BETA * layer.divergence
    return total
