"""Builds the Objective for an exchange: closed form for chains of linear layers, torch.func for other networks."""

import math
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge, Weights
from fedinv.task.columns import Categorical
from fedinv.task.models import outputs_of
from fedinv.task.schema import Schema

from ..distortion import Distortion
from ..local_training import gradient_weights, known_network, local_steps
from .chain import Chain, Standard, activation_of, directions
from .compressed.partial import Partial, coordinates, masks_of
from .compressed.signs import Signs, absent, read_signs, tells_sizes
from .network import Network, Statistics, differentiable, normalizations, saturates
from .objective import Distance, Loss, dense_layers
from .presets import Preset

Matcher = Chain | Network

CPU = torch.device("cpu")
RAREST = 0.02
"""Floor of the standard deviation by which a one-hot input is divided."""


@dataclass(frozen=True)
class Matching:
    """The objectives by which an exchange is matched, and facts of its update."""

    objective: Matcher
    """The objective to search by, as the preset wants it."""
    plain: Matcher
    """The cosine distance of the gradients as they are, without standardization, scales or priors; for signs twice the
    share of the gradient's absolute sum that has wrong ones."""
    bias: Tensor
    """Update of the last layer's bias, float32 (outputs,); empty where it has none or it was not sent."""
    parameters: int
    """Number of coordinates that depend on the gradient, without buffers."""
    length: float
    """Norm of the update, without buffers."""
    absent: Tensor | None = None
    """Inputs that are known to be 0 in all records, bool (inputs,); None: of none it is known."""


def matching(
    last: Exchange,
    knows: Knowledge,
    distortion: Distortion,
    preset: Preset,
    step: float | None,
    device: torch.device = CPU,
) -> Matching:
    """Build the objective at the weights that were sent, or halfway to those that came back after several steps.

    `distortion` is what defenses are known to have done to the update: only coordinates that still depend on the
    gradient are compared, and gradients are clipped record by record as the client clipped them. `step` is the step
    length over all local steps, None where it is not known: then the gradient's length is not known either, and the
    distance is the cosine whatever was asked for. Raises ValueError, in words, for an update or a network that cannot
    be matched.
    """
    model, loss = knows.model, knows.loss or "cross-entropy"
    if model is None:
        raise ValueError("the architecture is withheld")
    if loss not in get_args(Loss):
        raise ValueError(f"the loss {loss!r} is not known to gradient matching")
    squared: Loss = "squared-error" if loss == "squared-error" else "cross-entropy"
    buffers = {name for name in last.sent if name.rpartition(".")[2].startswith("running_")}
    sent, update = ({k: t.float() for k, t in part.items() if k not in buffers} for part in (last.sent, last.received))
    if {k: t.shape for k, t in sent.items()} != {k: t.shape for k, t in update.items()}:
        raise ValueError("the update does not fit the network")
    if not all(bool(torch.isfinite(t).all()) for part in (last.sent, last.received) for t in part.values()):
        raise ValueError("values are not finite")
    norm = _norm(update)
    if not norm > 0:
        raise ValueError("the update is zero")
    if norm > 100 * max(1.0, _norm(sent)):
        raise ValueError("the update is far larger than the model, as if it were masked")
    middle = gradient_weights(replace(last, sent=sent, received=update), knows.algorithm == "fedsgd")
    at = {k: t.to(device) for k, t in middle.items()}
    asked: Distance = "cosine" if step is None else preset.distance
    size = 1.0 if step is None else norm / step
    parameters = sum(t.numel() for t in sent.values())
    clip, activation = distortion.record_clip, activation_of(model)
    masks, signs = distortion.masks, distortion.only_signs
    weighted = torch.tensor(knows.class_weights, device=device) if knows.class_weights else None
    if activation is not None:
        layers, moved = dense_layers(at), dense_layers({k: t.to(device) for k, t in update.items()})
        if knows.schema is not None and knows.schema.width != layers[0].weight.shape[1]:
            raise ValueError("the schema does not fit the network")
        plain = Chain(layers, directions(moved, last.records), clip, "cosine", 1.0, squared, activation)
        plain = replace(plain, class_weights=weighted)
        if masks is not None or signs:
            every = {k: torch.ones_like(t) for k, t in update.items()}
            known = coordinates(moved, masks_of(masks or every, layers), signs)
            part = Partial(layers, plain.target, clip, "cosine", 1.0, squared, activation, known=known)
            part = replace(part, class_weights=weighted)
            if signs:
                told = read_signs(moved, known.masks)
                search = Signs(layers, (), clip, "cosine", 1.0, squared, activation, signs=told)
                search = replace(search, class_weights=weighted)
                # of two classes both have the size that was sent; of more it is a mean
                sized = len(moved[-1].bias) == 2 and tells_sizes(moved)
                bias = moved[-1].bias.cpu() if sized else torch.zeros(0)
                return Matching(search, part, bias, known.count, norm, absent(told))
            whole = bool(known.masks[-1].bias.all())
            return Matching(part, part, moved[-1].bias.cpu() if whole else torch.zeros(0), known.count, norm)
        chain = replace(plain, distance=asked, size=size)
        if preset.standardize and knows.schema is not None and clip == math.inf and not distortion.noise:
            standard = _standard(knows.schema, device)
            layers, changed = (standard.layer(layers[0]), *layers[1:]), (standard.change(moved[0]), *moved[1:])
            size *= _norm({f"{i}{k}": t for i, d in enumerate(changed) for k, t in vars(d).items()}) / norm
            target = directions(changed, last.records)
            chain = replace(chain, layers=layers, target=target, size=size, standard=standard)
        return Matching(chain, plain, moved[-1].bias.cpu(), parameters, norm)
    network = _network(last, knows, at)
    if clip < math.inf and normalizations(network):
        raise ValueError("records that are clipped one by one cannot pass a batch normalization")
    seen = _statistics(last, knows, network) if preset.statistics else ()
    names = list(dict(network.named_parameters()))
    cosine = Network(
        differentiable(network),
        0 if knows.schema is None else knows.schema.width,
        {k: (-update[k] / norm).to(device) for k in names},
        clip,
        loss=squared,
        masks={} if masks is None else {k: masks[k].to(device) for k in names},
        class_weights=weighted,
    )
    if masks is not None:
        update = {k: t * masks[k] if k in masks else t for k, t in update.items()}
        parameters = sum(int(masks[k].sum()) for k in names)
    scales = {k: _norm({k: update[k]}) ** -preset.balance if bool(update[k].any()) else 0.0 for k in names}
    balanced = {k: -update[k] * scales[k] for k in names}
    all_of_it = _norm(balanced)
    objective = replace(
        cosine,
        target={k: (t / all_of_it).to(device) for k, t in balanced.items()},
        scales=scales,
        distance=asked,
        size=size * all_of_it / norm,
        normal=preset.statistics,
        statistics=tuple(Statistics(s.mean.to(device), s.variance.to(device)) for s in seen),
    )
    return Matching(objective, cosine, _last_bias(network, update), parameters, norm)


def fades(knows: Knowledge) -> bool:
    """Whether the known network has units that saturate (sigmoid, tanh); False where it is not known."""
    if knows.model is None or knows.schema is None:
        return False
    try:
        with torch.device("meta"):
            return saturates(nn.Sequential(*knows.model.layers(knows.schema.shape, knows.schema.outputs)))
    except ValueError:  # named when the network is loaded
        return False


def _norm(tensors: Weights) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def _standard(schema: Schema, device: torch.device) -> Standard:
    mean, std = torch.zeros(schema.width), torch.ones(schema.width)
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            share = torch.tensor(column.frequencies) / sum(column.frequencies)
            mean[where], std[where] = share, (share * (1 - share)).sqrt().clamp_min(RAREST)
    return Standard(mean.to(device), std.to(device))


def _network(last: Exchange, knows: Knowledge, at: Weights) -> nn.Sequential:
    if knows.schema is None or knows.model is None:
        raise ValueError("the schema is withheld, and with it the shape of the images")
    return known_network(knows.model, {**last.sent, **at}, knows.schema)


def _last_bias(network: nn.Sequential, update: Weights) -> Tensor:
    linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    bias = update.get(f"{linear[-1]}.bias", torch.zeros(0)) if linear else torch.zeros(0)
    # a single logit z of two classes stands for -z/2 and z/2, whose biases would move by as much
    return torch.cat([-bias, bias]) if len(bias) == 1 and outputs_of(network) == 2 else bias


def _statistics(last: Exchange, knows: Knowledge, network: nn.Sequential) -> tuple[Statistics, ...]:
    """Means and variances of the client's batches where the running statistics' update was sent, else the old ones.

    After T steps of momentum m the running value is (1 - m)^T of the old one plus the rest of the batches': exact for a
    single step, a weighted mean over the batches for several.
    """
    steps, found = local_steps(knows, last.records) or 1, []
    for stem, momentum in normalizations(network):
        both = []
        for name in (f"{stem}.running_mean", f"{stem}.running_var"):
            moved, kept = last.received.get(name), (1 - momentum) ** steps
            gain = 0.0 if moved is None else moved.float() / (1 - kept)
            both.append(last.sent[name].float() + gain)
        found.append(Statistics(*both))
    return tuple(found)
