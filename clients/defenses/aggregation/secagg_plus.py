"""Runs Flower's SecAgg+: real keys, drop-outs survive.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020, in the implementation of Flower 1.41 (``secaggplus_mod`` here,
``SecAggPlusWorkflow`` at the server). A round takes four exchanges: public keys, encrypted shares of two secrets, the
masked vector modulo 2^32, and shares of one secret of each client: of its own mask if it is present, of its key if it
dropped out.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.client.mod import secaggplus_mod
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key, Stage
from numpy.typing import NDArray

from fedinv.defense import CallNext, Carrying, Defense, Participation
from fedinv.defense_terms.secagg_plus import MODULUS, SecaggTerms, terms
from fedinv.federation import wire


class SecaggPlus(SecaggTerms, Defense):
    """The server learns the weighted sum of the updates, quantized, and who took part; no single update.

    Claims no differential privacy: the sum itself may reveal records, and rounding guarantees nothing (`masking` shows
    what the exact sum reveals). A client that fails before it sent its vector is not in the sum, which
    stays correct as long as enough neighbors of each client remain; else the round changes nothing.

    What the protocol does not hide as Flower ships it: it is made for a server that follows it. One that lists the
    same clients as present and as dropped out gets the shares of both secrets and opens every update, unless
    `check_lists` is on. And its masks come from seeds of 32 bits and a generator that is not cryptographic:
    whoever knows all masks of a client but one can search for the last.

    Costs four messages per client and round, 8 bytes per parameter, and the time to draw a mask per neighbor.
    """

    kind: Literal["secagg-plus"] = "secagg-plus"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clipping_range": 0.5}
    unseeded: ClassVar[str | None] = "its secrets are drawn by Flower's protocol from the operating system"
    secure_aggregation: ClassVar[bool] = True
    can_be_unmasked: ClassVar[bool] = True
    in_clear: ClassVar[str | None] = "the number of examples and the weight of each client, and who took part"

    def misfit(self, cohort: int) -> str | None:
        """Refuse a cohort whose sum would wrap around the modulus."""
        if cohort > self.capacity:
            return (
                f"{cohort} clients in a round are too many for quantization_bits = {self.quantization_bits}: the "
                f"sum of more than {self.capacity} wraps around 2^32; write fewer bits or fewer clients_per_round"
            )
        return None

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters in force, with the number of clients behind the sum."""
        return {**self.model_dump(), "max_weight": self.heaviest(taken.heaviest), "cohort": taken.cohort}

    def carry(self, message: Message, context: Context, call_next: CallNext, carrying: Carrying) -> Message:
        """Answer one stage of the protocol; the client trains in the third of the four.

        A stage that the client cannot take part in raises ValueError, which is an error reply: the client drops out.
        """
        agreed = _agreed(self, carrying)
        asked = message.content.config_records[RECORD_KEY_CONFIGS]
        stage = asked.get(Key.STAGE)
        if stage == Stage.SETUP:
            context.state.config_records.pop(RECORD_KEY_STATE, None)  # left from an unfinished round
            _insist(asked, agreed)
        if stage == Stage.UNMASK and self.check_lists:
            _disjoint(asked)
        failed: list[Message] = []

        def train(inner: Message, own: Context) -> Message:
            reply = call_next(inner, own)
            if reply.has_error():
                failed.append(reply)
                raise _NoUpdateError
            return _as_fit_result(reply, agreed)

        try:
            with _rounding(carrying.rng):
                reply = secaggplus_mod(message, context, train)
        except _NoUpdateError:
            return failed[0]
        for name in [name for name in reply.content if name.startswith("fitres.")]:
            del reply.content[name]  # read by the mod alone
        if stage == Stage.UNMASK:
            context.state.config_records.pop(RECORD_KEY_STATE, None)  # its secrets are not needed any more
        return reply


class _NoUpdateError(Exception):
    """Training replied with an error: there is nothing to mask."""


def _agreed(defense: SecaggPlus, carrying: Carrying) -> dict[str, Any]:
    """Parameters that a server which follows the scenario sends, by SecAgg+'s key."""
    agreed, cohort = terms(defense.model_dump()), carrying.taken.cohort
    return {
        Key.SAMPLE_NUMBER: cohort,
        Key.SHARE_NUMBER: agreed.neighbors(cohort),
        Key.THRESHOLD: agreed.needed(cohort),
        Key.CLIPPING_RANGE: agreed.clipping_range,
        Key.TARGET_RANGE: 2**agreed.quantization_bits,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: agreed.heaviest(carrying.taken.heaviest),
    }


def _insist(asked: ConfigRecord, agreed: dict[str, Any]) -> None:
    """Refuse parameters other than the scenario's: a threshold of one share would reveal every secret."""
    for key, value in agreed.items():
        if asked.get(key) != value:
            raise ValueError(f"the server asks for SecAgg+ with {key} = {asked.get(key)!r} and not {value!r} as agreed")


def _disjoint(asked: ConfigRecord) -> None:
    active, dead = asked[Key.ACTIVE_NODE_ID_LIST], asked[Key.DEAD_NODE_ID_LIST]
    both = set(active) & set(dead)  # type: ignore[arg-type]
    if both:
        raise ValueError(f"the server lists {len(both)} clients both as present and as dropped out: it would open them")


def _as_fit_result(reply: Message, agreed: dict[str, Any]) -> Message:
    """Move the update to where the mod reads it, in float64. Raises ValueError for one that the mod would clip."""
    update = wire.unpack(reply.content.array_records["update"])
    weight = float(reply.content.metric_records["metrics"]["weight"])  # type: ignore[arg-type]
    limit, heaviest = agreed[Key.CLIPPING_RANGE], agreed[Key.MAX_WEIGHT]
    if weight > heaviest:
        raise ValueError(f"its weight {weight:g} is above max_weight {heaviest:g}, and the sum would overflow")
    arrays = [tensor.double().numpy() for tensor in update.values()]
    largest = max((_largest(array) for array in arrays), default=0.0) * weight / heaviest
    if not largest <= limit:  # NaN is refused too
        raise ValueError(
            f"its update times weight / max_weight reaches {largest:.3g}, beyond clipping_range {limit:g}, and would "
            "be cut: raise clipping_range or list a defense that clips before it"
        )
    del reply.content["update"]
    reply.content["fitres.parameters"] = ArrayRecord({str(i): Array(a) for i, a in enumerate(arrays)})
    reply.content["fitres.num_examples"] = MetricRecord({"num_examples": weight})
    reply.content["fitres.metrics"] = ConfigRecord()
    reply.content["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
    return reply


def _largest(array: NDArray[np.float64]) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


@contextmanager
def _rounding(rng: np.random.Generator) -> Iterator[None]:
    """Seed numpy's global generator, with which the mod rounds, from the scenario's; restore it afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
