"""The means and variances by which batch normalizations normalized a client's batches, as running ones tell them.

In training each step moves a running mean and variance a known share of the way to its batch's (Ioffe, Szegedy 2015):
of a single local step both are known from what was sent and what came back, of several their average.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from fedinv.task.foreign.layers import BatchNorm, Layer


def batch_statistics(
    network: nn.Module, sent: Mapping[str, Tensor], update: Mapping[str, Tensor], uses: Mapping[str, int] | None = None
) -> dict[str, Tensor]:
    """Buffers with which the network, in evaluation mode, does to the records of a batch what it did in training.

    They are by name, those of every batch normalization that ran; `sent` and `update` are by the network's own names.
    `uses` is how often each normalization was used in a batch, records times places: a batch's variance is divided by
    that number, the running one by one less; without it the two are taken for the same. Of several local steps the
    statistics are averages, of the last step most. Empty where any of them, or the count of batches, was not on the
    wire.
    """
    found: dict[str, Tensor] = {}
    for name, norm in _running(network):
        mean, variance = f"{name}running_mean", f"{name}running_var"
        steps = _steps(name, update)
        if steps == 0:
            continue
        if steps is None or not {mean, variance} <= sent.keys() & update.keys():
            return {}
        before = int(sent.get(f"{name}num_batches_tracked", 0))
        share = steps / (before + steps) if norm.momentum is None else 1 - (1 - norm.momentum) ** steps
        if not share:
            return {}
        many = (uses or {}).get(name.removesuffix("."), 0)
        for own, factor in ((mean, 1.0), (variance, (many - 1) / many if many > 1 else 1.0)):
            found[own] = (factor * (sent[own].double() + update[own].double() / share)).float()
        found[variance].clamp_(min=0)
    return found


def one_step(network: nn.Module, update: Mapping[str, Tensor]) -> bool:
    """Whether batch normalizations counted a single local step, so that their statistics are those of its batch."""
    counted = [_steps(name, update) for name, _ in _running(network)]
    return 1 in counted and set(counted) <= {0, 1}


def uses_of(layers: tuple[Layer, ...], records: int) -> dict[str, int]:
    """How often each layer is used in a batch of so many records."""
    return {layer.name: layer.places * records for layer in layers}


def _steps(name: str, update: Mapping[str, Tensor]) -> int | None:
    """Local steps that a batch normalization counted, 0 in evaluation mode; None where no count was on the wire."""
    count = update.get(f"{name}num_batches_tracked")
    return None if count is None else int(count)


def _running(network: nn.Module) -> Iterator[tuple[str, "nn.modules.batchnorm._BatchNorm"]]:
    """Batch normalizations with running statistics, each with the beginning of its tensors' names."""
    for name, module in network.named_modules():
        if isinstance(module, BatchNorm) and module.running_mean is not None:
            yield f"{name}." if name else "", module
