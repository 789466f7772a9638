"""The part of a network that attacks on perceptrons can be run on: the linear layers at its end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.foreign.layers import Fed, Layer
from fedinv.task.networks.perceptron import Activation, Logistic, Mlp


@dataclass(frozen=True)
class Part:
    """A chain of linear layers with biases and one kind of activation between them, up to the network's outputs."""

    layers: tuple[Layer, ...]
    """The linear layers, first to last."""
    model: Mlp | Logistic
    """The same chain as a model that is built here."""
    logits: int
    """Outputs of the last layer; with a single one, the model has two, of which it is half the difference."""

    @property
    def fed(self) -> Fed:
        """What feeds the chain: where it is not the record, claims are of what earlier layers made of it."""
        return self.layers[0].fed

    def rename(self, sent: Mapping[str, Tensor], update: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ...]:
        """The weights that were sent and their changes, by the network's own names, as those of `model`.

        A single logit z, as under binary cross-entropy, becomes the two logits -z/2 and z/2: their gradients are those
        of the network, up to the sign of the first, as long as the client takes a single step.
        """
        found: tuple[dict[str, Tensor], ...] = ({}, {})
        for place, layer in enumerate(self.layers):
            for kind, name in (("weight", layer.weight), ("bias", layer.bias)):
                assert name is not None  # a chain's layers have both
                found[0][f"{2 * place}.{kind}"], found[1][f"{2 * place}.{kind}"] = (
                    sent[name].float(),
                    update[name].float(),
                )
        if self.logits == 1:
            for tensors, scale in zip(found, (0.5, 1.0), strict=True):
                for name in list(tensors)[-2:]:
                    tensors[name] = torch.cat([-scale * tensors[name], scale * tensors[name]])
        return found


def last_part(layers: Sequence[Layer], shapes: Mapping[str, tuple[int, ...]]) -> Part | None:
    """The longest such chain at the end of a network by the shapes of its weights; None where there is none.

    A layer belongs to it that is used once a record, has a bias, and leads to the next by an activation alone.
    """
    chain: list[Layer] = []
    activation: Activation | None = None
    for layer in reversed([one for one in layers if one.kind == "Linear" and one.fed != "unknown"]):
        if layer.weight not in shapes or layer.bias not in shapes or layer.places != 1:
            break
        if chain:
            fits = shapes[str(layer.weight)][0] == shapes[str(chain[0].weight)][1]
            if layer.activation is None or not fits or (activation and layer.activation != activation):
                break
            activation = layer.activation
        elif layer.gate != "last":
            break
        chain.insert(0, layer)
    if not chain:
        return None
    hidden = tuple(shapes[str(layer.weight)][0] for layer in chain[:-1])
    model = Mlp(hidden=hidden, activation=activation) if hidden and activation else Logistic()
    return Part(tuple(chain), model, shapes[str(chain[-1].weight)][0])
