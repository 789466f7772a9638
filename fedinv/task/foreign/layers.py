"""Finds out what feeds and what gates each layer of a network by running it on made-up records, not by reading it."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedinv.errors import RequestError
from fedinv.task.networks.perceptron import ACTIVATIONS, Activation
from fedinv.task.seeding import seeded

Fed = Literal["record", "affine of the record", "features", "unknown"]
"""What a layer's inputs are: the record itself, an affine map of it, what earlier layers made of it, or not known."""
Gate = Literal["relu", "relu, pooled", "partly", "smooth", "last", "unused", "unknown"]
"""What the way back to a layer's outputs does: slopes vanish where a unit is negative (relu), there and where pooling
takes another place, at some negative units, at none; no layer follows; or nothing comes back."""
SIDES = (8, 28, 32, 64, 96, 128, 224)
"""Sides of the square images that are tried on a network that begins with a convolution, in pixels."""
LENGTHS = (16, 64, 128, 256, 1000)
"""Lengths of the sequences that are tried."""
MADE_UP = 4
"""Records in a made-up batch."""
POOLED = 0.05
"""Share of positive units without slope from which on something beside the ReLU silences them."""

BatchNorm = nn.modules.batchnorm._BatchNorm
Convolution = nn.modules.conv._ConvNd


@dataclass(frozen=True)
class Layer:
    """A module that holds parameters, as it behaves on records."""

    name: str
    """Name of the module in the network; empty for the network itself."""
    kind: str
    """Name of its class."""
    weight: str | None
    """Name of its weight among the network's parameters, the first of several; None without one."""
    bias: str | None
    """Name of its bias; None without one."""
    fed: Fed
    """What feeds it."""
    gate: Gate
    """What the way back does to its outputs."""
    places: int
    """How often the weight is used in one record: 1 for a linear layer, pixels for a convolution or a normalization,
    words for a text."""
    mixed: bool
    """Whether records of a batch are mixed before it, by a batch normalization."""
    activation: Activation | None = None
    """Activation that alone stands between a linear layer's outputs and the next one's inputs; None where there is none
    of those that are built here, or more, or either layer is not linear."""


def made_up(network: nn.Module) -> Tensor:
    """A random batch, four records, that the network accepts. Raises RequestError where no usual shape does."""
    draw = torch.Generator().manual_seed(0)
    for shape, words in _shapes(network):
        batch = (
            torch.randint(0, words, (MADE_UP, *shape), generator=draw)
            if words
            else torch.randn(MADE_UP, *shape, generator=draw)
        )
        # any error of a foreign network means that this is not its shape
        with suppress(Exception), _untouched(network), torch.no_grad():
            network(batch)
            return batch
    raise RequestError(
        "no made-up records fit the network: give an example batch of its inputs, as --example app.task:example, by a "
        "function that returns a tensor of two records or more"
    )


def _shapes(network: nn.Module) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes of one record to try, likeliest first, each with the number of words of a text's, 0 for numbers."""
    kinds = nn.Linear | Convolution | nn.Embedding
    first = next((one for one in network.modules() if isinstance(one, kinds)), None)
    if isinstance(first, nn.Linear):
        wide = first.in_features
        yield (wide,), 0
        for channels in (1, 3):
            side = math.isqrt(wide // channels)
            if side and side * side * channels == wide:
                yield (channels, side, side), 0
        yield from (((length, wide), 0) for length in LENGTHS)
    elif isinstance(first, nn.Conv2d):
        yield from (((first.in_channels, side, side), 0) for side in SIDES)
    elif isinstance(first, nn.Conv1d):
        yield from (((first.in_channels, length), 0) for length in LENGTHS)
    elif isinstance(first, nn.Embedding):
        yield from (((length,), first.num_embeddings) for length in LENGTHS)
    # layers need not be made in the order in which they run
    yield from (((one.in_features,), 0) for one in network.modules() if isinstance(one, nn.Linear))


def layers(network: nn.Module, example: Tensor, frozen: bool = False) -> tuple[Layer, ...]:
    """Every module that holds parameters, in the order in which it runs, then those that did not run.

    `example` (n, ...) is a batch of records, made up or not; the network and torch's generators are left as they were.
    Batch normalizations run as in training, so that what they mix is seen, unless clients train with them `frozen`, in
    evaluation mode. Raises RequestError where the network does not accept the example.
    """
    owners = dict(network.named_modules())
    with _untouched(network, frozen):
        plain = _run(network, example, slopes=True)
        linear = [name for name in plain if isinstance(owners[name], nn.Linear)]
        last, moved = max(linear, key=lambda name: plain[name].order, default=None), dict[str, tuple[Tensor, Tensor]]()
        if example.is_floating_point():
            step = 0.3 * torch.randn(example.shape, generator=torch.Generator().manual_seed(2))
            ahead, behind = (_run(network, example + sign * step, slopes=False) for sign in (1, -1))
            moved = {n: (ahead[n].inputs, behind[n].inputs) for n in plain if n in ahead and n in behind}
    found, mixed = list[Layer](), False
    for name, seen in plain.items():
        weight, bias = _parameters(name, owners[name])
        single = next(owners[name].children(), None) is None  # of a module of modules nobody knows what feeds its own
        found.append(
            Layer(
                name=name,
                kind=type(owners[name]).__name__,
                weight=weight,
                bias=bias,
                fed=_fed(seen, example, moved.get(name)) if single else "unknown",
                gate=("last" if name == last else _gate(seen)) if single else "unknown",
                places=_places(owners[name], seen, len(example)),
                mixed=mixed,
                activation=_activation(seen, linear, name, plain),
            )
        )
        mixed = mixed or (isinstance(owners[name], BatchNorm) and not frozen)
    for name, module in _holders(network):
        if name not in plain:
            weight, bias = _parameters(name, module)
            found.append(Layer(name, type(module).__name__, weight, bias, "unknown", "unknown", 1, mixed=False))
    return tuple(found)


def norms_frozen(network: nn.Module, update: Mapping[str, Tensor]) -> bool:
    """Whether clients trained with all batch normalizations in evaluation mode: their means came back unchanged."""
    owners = [f"{name}." if name else "" for name, one in network.named_modules() if isinstance(one, BatchNorm)]
    means = [update.get(f"{stem}running_mean") for stem in owners]
    return len(means) > 0 and all(one is not None and not bool(one.any()) for one in means)


def random_parts(network: nn.Module) -> tuple[str, ...]:
    """Names and kinds of the modules that make training depend on chance, as dropout."""
    kinds = (nn.modules.dropout._DropoutNd, nn.RReLU)
    return tuple(f"{name} ({type(one).__name__})" for name, one in network.named_modules() if isinstance(one, kinds))


@dataclass
class _Seen:
    """What went through a module."""

    inputs: Tensor
    outputs: Tensor
    calls: int
    order: int
    slopes: list[Tensor]


def _run(network: nn.Module, batch: Tensor, slopes: bool) -> dict[str, _Seen]:
    """What the modules with parameters saw of a batch, in the order of their first call.

    With `slopes` there are those of a random sum of the network's outputs.
    """
    found: dict[str, _Seen] = {}
    order = 0

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal order
            order += 1
            out = output[0] if isinstance(output, tuple) and output else output
            if not inputs or not isinstance(inputs[0], Tensor) or not isinstance(out, Tensor):
                return
            back: list[Tensor] = []
            if slopes and out.requires_grad:
                out.register_hook(back.append)  # type: ignore[no-untyped-call]  # in-place activations miss it
            calls = found[name].calls + 1 if name in found else 1
            found[name] = _Seen(inputs[0].detach().clone(), out.detach().clone(), calls, order, back)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in _holders(network)]
    try:
        with torch.set_grad_enabled(slopes):
            output = network(batch)
            if slopes:
                result = _tensor(output)
                draw = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
                (result * draw).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise RequestError(
            f"the network does not accept an example of the shape {tuple(batch.shape)}: {type(error).__name__}: name a "
            "batch of its inputs by --example"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _tensor(output: Any) -> Tensor:
    """The tensor that a network gives, or the first in what it gives. Raises TypeError where there is none."""
    if isinstance(output, Tensor):
        return output
    inner = output.values() if isinstance(output, dict) else output if isinstance(output, tuple | list) else ()
    for one in inner or vars(output).values():
        if isinstance(one, Tensor) and one.is_floating_point():
            return one
    raise TypeError("the network gives no tensor")


def _holders(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules with parameters of their own, and batch normalizations without."""
    for name, module in network.named_modules():
        if isinstance(module, BatchNorm) or next(module.parameters(recurse=False), None) is not None:
            yield name, module


def _parameters(name: str, module: nn.Module) -> tuple[str | None, str | None]:
    """Names of a module's weight, the first where it has several, and of its bias in the network."""
    stem, own = f"{name}." if name else "", [one for one, _ in module.named_parameters(recurse=False)]
    weights = [one for one in own if "bias" not in one]
    bias = "bias" if "bias" in own else None
    return (stem + weights[0] if weights else None), (stem + bias if bias else None)


def _fed(seen: _Seen, example: Tensor, moved: tuple[Tensor, Tensor] | None) -> Fed:
    inputs = seen.inputs
    if inputs.numel() == example.numel() and torch.equal(inputs.flatten().float(), example.flatten().float()):
        return "record"
    if moved is None or not inputs.is_floating_point() or moved[0].shape != inputs.shape:
        return "features"
    # a map is affine where it takes the middle of two records to the middle of their images
    affine = torch.allclose(moved[0] + moved[1], 2 * inputs, rtol=1e-4, atol=1e-5)
    return "affine of the record" if affine else "features"


def _activation(seen: _Seen, linear: list[str], name: str, plain: Mapping[str, _Seen]) -> Activation | None:
    """The activation between a linear layer and the linear layer that runs next; see Layer."""
    behind = [one for one in linear if plain[one].order > seen.order]
    if name not in linear or not behind:
        return None
    following = plain[min(behind, key=lambda one: plain[one].order)].inputs
    for kind, activation in ACTIVATIONS.items():
        if following.shape == seen.outputs.shape and torch.allclose(activation()(seen.outputs), following, atol=1e-6):
            return kind
    return None


def _gate(seen: _Seen) -> Gate:
    if not seen.slopes:
        return "unused"
    slopes, below = seen.slopes[0], seen.outputs < 0
    silent_below = _silent(slopes, below)
    if silent_below == 1:
        return "relu, pooled" if _silent(slopes, ~below) > POOLED else "relu"
    return "smooth" if silent_below < 0.5 else "partly"


def _silent(slopes: Tensor, where: Tensor) -> float:
    """Share of the units in question that nothing comes back to."""
    return float((slopes[where] == 0).float().mean()) if bool(where.any()) else 0.0


def _places(module: nn.Module, seen: _Seen, records: int) -> int:
    if isinstance(module, Convolution):
        return seen.outputs[0, 0].numel() * seen.calls
    if isinstance(module, BatchNorm):
        return max(1, seen.inputs.numel() // max(1, records * seen.inputs.shape[1])) * seen.calls
    if isinstance(module, nn.Embedding):
        return max(1, seen.inputs.numel() // records) * seen.calls
    return max(1, seen.outputs[..., 0].numel() // records) * seen.calls


@contextmanager
def _untouched(network: nn.Module, frozen: bool = False) -> Iterator[None]:
    """The network in evaluation mode, but its batch normalizations in training unless they are `frozen`.

    All of it is put back afterwards.
    """
    modes = {name: module.training for name, module in network.named_modules()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    trained = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    network.eval().requires_grad_(True)
    for module in network.modules():
        if isinstance(module, BatchNorm) and not frozen:
            module.train()
    try:
        with seeded(0):
            yield
    finally:
        network.zero_grad(set_to_none=True)
        for name, module in network.named_modules():
            module.training = modes[name]
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained[name])
