"""Calls a defense's hooks: what one raises, or returns and must not, names the defense's file and line."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from flwr.app import Context, Message
from torch import Tensor, nn

from fedinv.blame import PluginError, blamed, returned
from fedinv.defense import (
    Batch,
    CallNext,
    Carrying,
    Clipping,
    Defense,
    Job,
    LocalTraining,
    Masks,
    Participation,
    PrivacyEvent,
    Sending,
    Update,
)
from fedinv.errors import RequestError
from fedinv.task.models import state


def protected(defense: Defense, update: Update, sending: Sending) -> Update:
    """What the defense sends instead of the update: tensors of the same names and shapes, in the same order.

    float32 or float64, or whole numbers where the update has them or the defense is a secure aggregation.
    """
    with blamed(_name(defense), type(defense)):
        found = defense.protect(update, sending)
    return _checked(defense, "protect", found, update)


def carried(defense: Defense, message: Message, context: Context, call_next: CallNext, carrying: Carrying) -> Message:
    """The defense's answer to one message of a round."""
    with blamed(_name(defense), type(defense)):
        found = defense.carry(message, context, call_next, carrying)
    if not isinstance(found, Message):
        raise _returned(defense, "carry", f"a Message, not {_type(found)}")
    return found


def augmented(defense: Defense, batch: Batch, network: nn.Sequential, rng: np.random.Generator) -> Batch:
    """The batch that a local step uses instead: inputs of the same width, and a target for each."""
    with blamed(_name(defense), type(defense)):
        found = defense.augment(batch, network, rng)
    if not isinstance(found, Batch):
        raise _returned(defense, "augment", f"a Batch, not {_type(found)}")
    if found.inputs.shape[1:] != batch.inputs.shape[1:] or found.inputs.dtype != batch.inputs.dtype:
        wanted, held = _form(batch.inputs), _form(found.inputs)
        raise _returned(defense, "augment", f"inputs like the batch's, {wanted}, not {held}")
    if len(found.targets) != len(found.inputs) or found.targets.shape[1:] != batch.targets.shape[1:]:
        held = f"{tuple(found.targets.shape)} for {len(found.inputs)} inputs"
        raise _returned(defense, "augment", f"one target for each input, like the batch's, not {held}")
    return found


def wrapped_network(defense: Defense, network: nn.Sequential, rng: np.random.Generator) -> nn.Sequential:
    """The network that is trained instead: parameters of the same names and shapes."""
    before = _shapes(dict(network.named_parameters()))
    with blamed(_name(defense), type(defense)):
        found = defense.wrap_network(network, rng)
    if not isinstance(found, nn.Sequential):
        raise _returned(defense, "wrap_network", f"an nn.Sequential, not {_type(found)}")
    after = _shapes(dict(found.named_parameters()))
    if before != after:
        changed = sorted(before.items() ^ after.items())[0][0]
        raise _returned(defense, "wrap_network", f"a network with the parameters it was given: {changed!r} is not")
    return found


def wrapped_training(defense: Defense, training: LocalTraining) -> LocalTraining:
    """The training that runs instead, whose update has the network's parameters."""
    with blamed(_name(defense), type(defense)):
        wrapped = defense.wrap_training(training)
    if not callable(wrapped):
        raise _returned(defense, "wrap_training", f"a function from a job to its update, not {_type(wrapped)}")

    def run(job: Job) -> Update:
        held, needed = state(job.network), [name for name, _ in job.network.named_parameters()]
        with blamed(_name(defense), type(defense)):
            found = wrapped(job)
        # what counts batches in the network, its buffers, may be left out
        if isinstance(found, dict) and not set(found) >= set(needed):
            lacks = next(name for name in needed if name not in found)
            raise _returned(defense, "wrap_training", f"an update of every parameter: {lacks!r} is missing")
        known = {name: tensor for name, tensor in held.items() if not isinstance(found, dict) or name in found}
        return _checked(defense, "wrap_training", found, known)

    return run


def masks(defense: Defense, rng: np.random.Generator) -> Masks | None:
    """The scales of hidden units, for clients that are trained as one; None where they cannot be."""
    with blamed(_name(defense), type(defense)):
        found = defense.masks(rng)
    if found is not None and not callable(found):
        raise _returned(defense, "masks", f"a function of two sizes, or None, not {_type(found)}")
    return found


def clipping(defense: Defense, taken: Participation) -> Clipping | None:
    """How records' gradients are clipped and noised, for clients that are trained as one; None where they cannot be."""
    with blamed(_name(defense), type(defense)):
        found = defense.clipping(taken)
    if found is not None and not isinstance(found, Clipping):
        raise _returned(defense, "clipping", f"a Clipping, or None, not {_type(found)}")
    return found


def events(defenses: Iterable[Defense], taken: Participation) -> list[PrivacyEvent]:
    """What these defenses charge to the client's ledger for one round."""
    charged: list[PrivacyEvent] = []
    for defense in defenses:
        with blamed(_name(defense), type(defense), RequestError):  # raised for a budget that no noise keeps
            found = defense.privacy_events(taken)
        if not isinstance(found, tuple) or not all(isinstance(one, PrivacyEvent) for one in found):
            raise _returned(defense, "privacy_events", f"a tuple of PrivacyEvent, not {_type(found)}")
        charged += found
    return charged


def _checked(defense: Defense, hook: str, found: object, like: Mapping[str, Tensor]) -> Update:
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise _returned(defense, hook, f"a dict from each parameter's name to its tensor, not {_type(found)}")
    if found.keys() != like.keys():
        strange = sorted(found.keys() ^ like.keys())[0]
        fault = "is missing" if strange in like else "is none of them"
        raise _returned(defense, hook, f"a tensor for each parameter of the update: {strange!r} {fault}")
    for name, tensor in found.items():
        whole = tensor.dtype == torch.int64 and (defense.secure_aggregation or like[name].dtype == torch.int64)
        if tensor.shape != like[name].shape or not (whole or tensor.dtype in (torch.float32, torch.float64)):
            raise _returned(defense, hook, f"{name!r} as {_form(like[name])}, not {_form(tensor)}")
    return {name: found[name] for name in like}


def _name(defense: Defense) -> str:
    return f"defense {defense.kind!r}"


def _returned(defense: Defense, hook: str, instead: str) -> PluginError:
    return returned(_name(defense), type(defense), f"{hook} must return {instead}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _type(found: object) -> str:
    return "None" if found is None else f"a {type(found).__name__}"
