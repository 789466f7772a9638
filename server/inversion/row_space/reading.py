"""Reads the equations of a batch's span off an update, and searches them for records."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange, Knowledge
from fedinv.task.models import load
from fedinv.task.networks.perceptron import Mlp

from ...countermeasures import rounding
from ..activations import Activation
from ..exact.first_layer import ROUNDING, convolution, joined
from ..exact.validity import stray
from ..local_training import decay
from ..matching.chain import activation_of
from ..matching.objective import dense_layers
from ..noise import noise_std
from .local_search import Block, Equations, Form, form
from .search import DRIFTED, EXACT, Precision
from .spans import Span, span

SPARE = 4
"""Equations that are asked for beyond a record's numbers: fewer would let anything pass."""
DRIFT = 2
"""Directions granted to each record where several local steps moved what is behind the first layer."""
COARSE = 30.0
"""Noise, in units of float32 rounding, at which an update is no longer taken for exact: it was quantized, or worse."""
MASKED = 100.0
"""An update so many times as long as the model is no update."""
ROOM = 0.7
"""Share of a layer's units that such directions may take."""


@dataclass(frozen=True)
class View:
    """What an exchange shows of a perceptron, in float64."""

    network: nn.Sequential
    """At the weights that were sent, or halfway to those that came back."""
    activation: Activation
    updates: tuple[Tensor, ...]
    """(outputs, inputs + 1) of each linear layer."""
    form: Form
    width: int
    single: bool
    """Whether a single step was taken."""
    still: bool
    """Whether its update came as such, and not as a difference of rounded weights."""
    precision: Precision
    noise: float
    spanned: tuple[bool, bool]
    """Whether the rows of the first and the second layer's update span the records: no more of these than units."""

    def spans(self, updates: tuple[Tensor, ...], records: int, generator: torch.Generator) -> tuple[Span, Span]:
        """The spans of the first two layers' updates."""
        drift = records if self.single else min(DRIFT * records, int(ROOM * len(updates[1])))
        ranks = (records, drift)
        first, second = (span(u, r, self.noise, generator) for u, r in zip(updates, ranks, strict=True))
        return first, second

    def equations(self, spans: tuple[Span, Span]) -> Equations:
        """What each record behind these spans must fulfill."""
        rows = [s.equations if told else s.equations[:0] for s, told in zip(spans, self.spanned, strict=True)]
        blocks = (Block(r, r[:0]) for r in rows)
        weight, bias = (p.detach() for p in list(self.network.parameters())[:2])
        return Equations(weight, bias, self.activation, *blocks)


def view(last: Exchange, knows: Knowledge) -> View:
    """What an exchange shows of a perceptron. Raises ValueError, in words, for one that cannot be read so."""
    model = knows.model
    activation = activation_of(model)
    if last.sent and next(iter(last.sent.values())).ndim == 4:
        raise ValueError(convolution(last, knows))
    if knows.loss == "squared-error":
        raise ValueError("the label is a number, and labels are told here for classes only")
    if activation is None or not isinstance(model, Mlp):
        raise ValueError("the architecture is withheld, or is no perceptron with a hidden layer")
    if sorted(last.sent) != sorted(last.received) or any(
        last.sent[n].shape != t.shape for n, t in last.received.items()
    ):
        raise ValueError("the update does not have the parameters that were sent, as if it were masked or compressed")
    tensors = (*last.sent.values(), *last.received.values())
    if not all(bool(torch.isfinite(t).all()) for t in tensors):
        raise ValueError("the update or the model holds values that are not finite")
    sizes = [
        math.sqrt(sum(float(t.double().square().sum()) for t in side.values())) for side in (last.sent, last.received)
    ]
    if sizes[1] > MASKED * max(1.0, sizes[0]):
        raise ValueError("the update is far larger than the model, as if it were masked")
    layers = dense_layers(last.sent)
    width = layers[0].weight.shape[1]
    if knows.schema is not None and knows.schema.width != width:
        raise ValueError("the schema does not fit the network's inputs")
    names = list(last.sent)
    pairs = list(zip(names[::2], names[1::2], strict=True))
    shrunk = decay(knows, last.records)
    updates = tuple(joined(last.received, w, b) - shrunk * joined(last.sent, w, b) for w, b in pairs)
    if not all(bool(u.any()) for u in updates):
        raise ValueError("the update is zero")
    still = knows.algorithm == "fedsgd"
    single = still or (knows.epochs == 1 and (knows.batch_size or 0) >= last.records)
    halfway = 0.0 if single else 0.5
    weights = {name: t.double() + halfway * last.received[name].double() for name, t in last.sent.items()}
    try:
        network = load(model, (width,), len(layers[-1].bias), weights)
    except RuntimeError as error:
        raise ValueError("the weights that were sent are not of the architecture that is known") from error
    noise = math.hypot(noise_std(knows, last.records), rounding(last, knows))
    if knows.schema is not None:
        noise = max(noise, stray(knows.schema, updates[0]))
    unit = ROUNDING * float(updates[0].square().mean().sqrt())
    precision = EXACT if still and noise < COARSE * unit else DRIFTED
    shape, room = form(knows.schema, width), 1.0 if single else ROOM
    spanned = (len(updates[0]) >= last.records, room * len(updates[1]) >= last.records)
    return View(network, activation, updates, shape, width, single, still, precision, noise, spanned)


def check_enough(view: View, spans: tuple[Span, Span]) -> None:
    """Raise ValueError unless the equations tell a record from anything else."""
    free = 0
    for update, one, spanned, given in zip(view.updates, spans, view.spanned, (len(view.form.groups), 0), strict=False):
        if not one.rank:
            raise ValueError("the update does not stand above the noise in it")
        # inputs that no record has, and one-hot groups that sum to 1, hold for anything
        free += spanned * max(0, int(update[:, :-1].any(0).sum()) + 1 - one.rank - given)
    if free < len(view.form.numbers) + SPARE:
        raise ValueError(
            f"the update's spans leave {free} equations for the {len(view.form.numbers)} numbers of a record: too many "
            "records for the network's width"
        )
