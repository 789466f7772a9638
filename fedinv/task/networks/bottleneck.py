"""A variational bottleneck in front of a network's last layer: part of the model, as server and clients share it."""

import torch
from torch import Tensor, nn

WIDTH = 256
"""Width of a bottleneck, in numbers, where the scenario gives none."""
BETA = 1e-3
"""Weight of the bottleneck's divergence in the loss, as in Scheliga, Maeder, Seeland 2022 (PRECODE), section 4.2."""


class Bottleneck(nn.Module):
    """Encodes (n, width) into a random draw of `narrow` numbers, mean + std * normal, and decodes it to (n, width).

    Alemi, Fischer, Dillon, Murphy 2017 (Deep variational information bottleneck), as Scheliga et al. 2022 place it.
    Without a generator, and in evaluation, the mean is decoded instead of a draw.
    """

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.encode = nn.Linear(width, 2 * narrow)
        self.decode = nn.Linear(narrow, width)
        self.generator: torch.Generator | None = None
        self.divergence: Tensor | float = 0.0
        """Kullback-Leibler divergence of the draws from a standard normal, in nats, averaged over the last batch."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Encode, draw and decode hidden units (n, width); remembers the batch's divergence for `penalty`."""
        mean, spread = self.encode(hidden).chunk(2, -1)
        std = torch.nn.functional.softplus(spread)
        if not self.training or self.generator is None:
            self.divergence = 0.0
            return self.decode(mean)  # type: ignore[no-any-return]
        self.divergence = (std.square() + mean.square() - 1 - 2 * (std + 1e-12).log()).sum(-1).mean() / 2
        noise = torch.randn(mean.shape, generator=self.generator)
        return self.decode(mean + std * noise)  # type: ignore[no-any-return]


def penalty(network: nn.Module) -> Tensor | float:
    """Term that a network's bottlenecks add to the last batch's loss: BETA times their divergence; 0 without any."""
    total: Tensor | float = 0.0
    for layer in network.modules():
        if isinstance(layer, Bottleneck):
            total = total + BETA * layer.divergence
    return total
