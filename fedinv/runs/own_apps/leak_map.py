"""Maps what an update of any network tells, layer by layer, without the truth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedinv import plugins
from fedinv.attack import Attack, Exchange
from fedinv.errors import RequestError
from fedinv.results.leak_map import LayerLeak, LeakMap
from fedinv.results.terms import Whose
from fedinv.task.foreign.alignment import NAMED, Aligned, align
from fedinv.task.foreign.batch_statistics import batch_statistics, one_step, uses_of
from fedinv.task.foreign.layers import BatchNorm, Layer, layers, made_up, norms_frozen, random_parts
from fedinv.task.foreign.training.training import Repeatable
from fedinv.task.foreign.update import LayerUpdate, Origin, layer_update
from fedinv.task.models import perceptron
from fedinv.task.networks.ft_transformer import Tokens
from fedinv.task.networks.tabular import TABLES

CHANGES = 0.3
"""Norm, relative to what was sent, below which what came back is taken for a change and not for new weights."""

UNREAD = "clients train with {}, whose steps are no sums of gradients: of what their updates tell nothing is known"
"""Note where the optimizer is known and no attack reads its updates."""


@dataclass(frozen=True)
class Probed:
    """A network at the weights that were sent, with its update, by the network's own names."""

    network: nn.Module
    round: int
    """Round of the update."""
    aligned: Aligned
    """Which of the arrays on the wire is which of the network's tensors."""
    sent: Mapping[str, Tensor]
    """Weights and buffers that were sent."""
    update: Mapping[str, Tensor]
    """Changes of the tensors that came back."""
    layers: tuple[Layer, ...]
    """The network's layers as they behave at these weights."""
    noise: float = 0.0
    """Standard deviation of what the rounding of a secure sum added to each entry of the update."""

    @property
    def undone(self) -> bool:
        """Whether the wire tells by which means and variances the batch of a single step was normalized."""
        known = bool(batch_statistics(self.network, self.sent, self.update))
        # of a sum they are means of several clients'
        return known and one_step(self.network, self.update) and not self.noise

    def forward(self, records: int) -> dict[str, Tensor]:
        """The weights and buffers by which the network, in evaluation mode, does to a batch what it did in training.

        The batch is one of so many records. Of several steps it is roughly so; where nothing is known of their
        statistics, buffers are as they were sent.
        """
        return {**self.sent, **batch_statistics(self.network, self.sent, self.update, uses_of(self.layers, records))}

    @property
    def measured(self) -> list[LayerUpdate]:
        """What the update of each layer shows."""
        return [layer_update(layer, self.sent, self.update, self.noise) for layer in self.layers]


def probe(network: nn.Module, exchange: Exchange, example: Tensor | None = None, noise: float = 0.0) -> Probed:
    """Match one update to a network, whatever its arrays are called, and find out what its layers do.

    `example` is a batch of the network's inputs, made up where there is none; `noise` is the standard deviation of a
    secure sum's rounding of each entry. The network is left as it was. Raises RequestError where the arrays do not fit
    it, or no example does.
    """
    aligned = align(exchange.sent, network)
    sent, update = aligned.take(exchange.sent), aligned.take(exchange.received)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict({**before, **sent})
    try:
        batch = made_up(network) if example is None else example
        found = layers(network, batch, norms_frozen(network, update))
        probed = Probed(network, exchange.round, aligned, sent, update, found, noise)
        if probed.undone:
            network.load_state_dict({**before, **probed.forward(0)})
            probed = replace(probed, layers=_unmixed(found, layers(network, batch, frozen=True)))
    finally:
        network.load_state_dict(before)
    return probed


def _unmixed(found: Sequence[Layer], still: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers as they train, those that are `still` fed an affine map of the record by the batch's own statistics so."""
    affine = {one.name for one in still if one.fed == "affine of the record"}
    return tuple(replace(one, fed="affine of the record", mixed=False) if one.name in affine else one for one in found)


def leak_map(
    probed: Probed,
    client: Whose,
    claimed: int | None = None,
    how: Repeatable | None = None,
    origin: Origin | None = None,
) -> LeakMap:
    """The map of one update; `claimed` is the number of records that the client reports, where it does.

    With `how` clients train known, what only holds for other trainings is not said: ranks bound nothing behind an
    optimizer that rescales entries, and after several steps those of inputs that move with the weights do not. `origin`
    says the same of a run of fedinv's, and which network it is: attacks that read it are named at its layers.
    """
    network, aligned, update = probed.network, probed.aligned, probed.update
    attacks, unfit = _fitting(plugins.loaded("attacks"), origin)
    owners = dict(network.named_modules())
    measured = probed.measured
    if how is not None and not how.steps.linear:
        measured = [replace(one, alike=1.0) for one in measured]
    first = next((one.name for one in probed.layers if one.kind == "Linear"), None)
    measured = [replace(one, origin=origin, first=one.layer.name == first) for one in measured]
    steady = how is None or how.any_length or how.single(claimed or 1)
    if origin is not None:
        steady = origin.single and origin.linear
    fixed = ("record", "affine of the record")
    least = max((one.least for one in measured if steady or one.layer.fed in fixed), default=0)
    measured = [replace(one, records=least or claimed or 0) for one in measured]
    found = [
        _leak(one, _following(one, behind), attacks, _tells(one.layer, owners[one.layer.name], update))
        for one, behind in zip(measured, [*measured[1:], None], strict=True)
    ]
    notes = [aligned.note] if aligned.note else []
    if aligned.unknown:
        notes.append(f"of {_few(aligned.unknown)} nothing is known: arrays that are not the network's")
    if lacks := tuple(name for name in aligned.names if name not in update):
        notes.append(f"did not come back: {_few(lacks)}")
    if aligned.missing:
        notes.append(f"not on the wire: {_few(aligned.missing)}")
    if how is not None and not how.steps.linear and not any(one.applies for one in found):
        notes.append(UNREAD.format(how.steps.kind))
    if origin is not None and unfit:
        notes.append(f"{', '.join(unfit)} cannot be run on a network of the kind {origin.model.kind}")
    if random := random_parts(network):
        notes.append(f"training depends on chance: {_few(random)}")
    return LeakMap(
        network=type(network).__name__,
        round=probed.round,
        client=client,
        claimed=claimed,
        records=least or None,
        layers=found,
        notes=notes,
        at_once=[] if origin is None else _at_once(attacks, found),
    )


def update_of(sent: Mapping[str, Tensor], returned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The change of each array that came back: what came back less what was sent, in float32, integers as they are.

    Some apps send the change itself: what came back is taken for it where it is far smaller than what was sent. Raises
    RequestError naming arrays that came back in other shapes or were not sent.
    """
    for name, tensor in returned.items():
        if name not in sent:
            raise RequestError(f"{name!r} came back, and was not sent")
        if sent[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)} came back, {tuple(sent[name].shape)} was sent"
            raise RequestError(f"{name!r}: the shape {shapes}")
    if _size(returned) < CHANGES * _size({name: sent[name] for name in returned}):
        return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in returned.items()}
    return {name: _change(sent[name], tensor) for name, tensor in returned.items()}


def _size(arrays: Mapping[str, Tensor]) -> float:
    """Euclidean norm of all floating-point arrays together."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in arrays.values() if t.is_floating_point()))


def _change(sent: Tensor, returned: Tensor) -> Tensor:
    return returned.float() - sent.float() if returned.is_floating_point() else returned - sent


def _following(update: LayerUpdate, behind: LayerUpdate | None) -> LayerUpdate | None:
    """The next layer where it is linear and has as many inputs as this one outputs."""
    linear = behind is not None and behind.layer.kind == "Linear" and update.on_wire and behind.on_wire
    return behind if linear and behind is not None and behind.shape[1] == update.shape[0] else None


def _leak(
    update: LayerUpdate, following: LayerUpdate | None, attacks: Mapping[str, type[Attack]], tells: str
) -> LayerLeak:
    layer = update.layer
    readings = {kind: attack.reads(update, following) for kind, attack in attacks.items()} if update.on_wire else {}
    told = {kind: one for kind, one in readings.items() if one is not None}
    told = {kind: told[kind] for kind in sorted(told, key=lambda kind: (not told[kind].likely, kind))}
    return LayerLeak(
        name=layer.name,
        kind=layer.kind,
        shape=update.shape,
        fed=layer.fed,
        gate=layer.gate,
        places=layer.places,
        units_per_record=update.units_per_record,
        rank=update.rank,
        most=update.most,
        separable=update.rank if update.bounded else None,
        applies={kind: one.says for kind, one in told.items() if one.applies},
        why_not={kind: one.says for kind, one in told.items() if not one.applies},
        tells=tells,
    )


def _fitting(attacks: Mapping[str, type[Attack]], origin: Origin | None) -> tuple[dict[str, type[Attack]], list[str]]:
    """The attacks that can be run on a network built here, and the kinds of those at layers that cannot; else all."""
    if origin is None:
        return dict(attacks), []
    model = perceptron(origin.model)
    fit = {kind: attack for kind, attack in attacks.items() if attack.suits(model)}
    return fit, [kind for kind, attack in attacks.items() if kind not in fit and attack.tried_in_turn is not None]


def _at_once(attacks: Mapping[str, type[Attack]], layers: Sequence[LayerLeak]) -> list[str]:
    """Kinds of the attacks on updates that rebuild records and look at no single layer."""
    single = {kind for one in layers for kind in (*one.applies, *one.why_not)}
    return [kind for kind, attack in attacks.items() if attack.tried_in_turn is not None and kind not in single]


def _tells(layer: Layer, module: nn.Module, update: Mapping[str, Tensor]) -> str:
    """What the arrays of an embedding or a batch normalization tell without an attack; empty for others."""
    if isinstance(module, nn.Embedding) and layer.weight is not None and layer.weight in update:
        moved = int(update[layer.weight].any(1).sum())
        return _named(moved, module.num_embeddings, "categories or words")
    if isinstance(module, Tokens) and layer.weight is not None and layer.weight in update:
        values = torch.repeat_interleave(torch.tensor(module.columns), torch.tensor(module.columns)) > 1
        moved = int(update[layer.weight][values].any(1).sum())
        return _named(moved, int(values.sum()), "categories")
    if TABLES in layer.name and layer.weight is not None and layer.weight in update:
        moved = int(update[layer.weight].any(0).sum())
        return _named(moved, update[layer.weight].shape[1], "categories of its column")
    if isinstance(module, BatchNorm):
        stem = f"{layer.name}." if layer.name else ""
        mean, steps = update.get(f"{stem}running_mean"), update.get(f"{stem}num_batches_tracked")
        if mean is not None and bool(mean.any()):
            count = 0 if steps is None else int(steps)
            over = "the batch" if count == 1 else f"the batches of {count} local steps" if count > 1 else "the batches"
            return f"mean and variance of its inputs over {over} are on the wire"
    return ""


def _named(moved: int, of: int, what: str) -> str:
    return f"names the {moved} of {of} {what} that occur" if moved < of else ""


def _few(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{rest}"
