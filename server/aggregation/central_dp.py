"""The server's part of central differential privacy: Flower's strategy with fixed clipping, applied to our updates."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
from torch import Tensor

from fedinv.defense_terms.central_dp import CentralNoise
from fedinv.federation import wire
from fedinv.federation.agreement import Agreement
from fedinv.federation.streams import stream

Update = Mapping[str, Tensor]
"""Update, LOCAL MINUS GLOBAL, by parameter name."""
EPS = torch.finfo(torch.float32).eps
"""Relative spacing of float32 numbers."""


def mean(
    agreement: Agreement, sent: Update, updates: Sequence[Update], weights: Sequence[float], round_: int
) -> dict[str, Tensor]:
    """The clipped and noised mean of a round, with the scenario's noise; every client has the same weight."""
    federation = agreement.federation
    noise = CentralNoise.model_validate(agreement.defense("central-dp"))
    multiplier = noise.event(federation.clients, federation.participants, federation.rounds).noise_multiplier
    seed = int(stream(agreement.hidden, "central-dp", round_).integers(2**32))
    return noised_mean(sent, updates, noise.clip, multiplier, round_, seed)


def noised_mean(
    sent: Update, updates: Sequence[Update], clip: float, noise_multiplier: float, round_: int, seed: int
) -> dict[str, Tensor]:
    """Flower's clipped and noised mean of updates, LOCAL MINUS GLOBAL, float32 by parameter name.

    Flower clips differences of weights, so that updates are first added to the weights that were sent. It draws from
    numpy's global generator, whose state is restored afterwards. Raises ValueError where Flower returns no mean.
    """
    strategy = DifferentialPrivacyServerSideFixedClipping(FedAvg(), noise_multiplier, clip, len(updates))
    strategy.current_arrays = wire.pack(sent)  # as its configure_train does when it sends the model
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        arrays, _ = strategy.aggregate_train(round_, [_reply(sent, update) for update in updates])
    finally:
        np.random.set_state(before)  # noqa: NPY002
    if arrays is None:
        raise ValueError("Flower's strategy gave no mean")
    return {name: tensor - sent[name] for name, tensor in wire.unpack(arrays).items()}


def _reply(sent: Update, update: Update) -> Message:
    weights = {name: sent[name] + tensor for name, tensor in update.items()}
    if all(torch.equal(weights[name], sent[name]) for name in sent):
        # Flower divides by the update's norm: a zero update is changed by about one rounding step
        name = next(iter(weights))
        weights[name] = weights[name] * (1 + 2 * EPS) + EPS
    content = RecordDict({"arrays": wire.pack(weights), "metrics": MetricRecord({"num-examples": 1})})
    request = Message(RecordDict(), dst_node_id=1, message_type="train")
    return Message(content, reply_to=request)
