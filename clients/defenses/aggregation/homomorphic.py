"""Encrypts (CKKS): the server adds up ciphertexts.

Cheon, Kim, Kim, Song 2017 (the scheme); Zhang et al. 2020 (BatchCrypt) for one key pair among the clients of a
federation, none of it at the server. By TenSEAL, an optional dependency: ``pip install 'fedinv[homomorphic]'``.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from numpy.typing import NDArray

from fedinv.defense import CallNext, Carrying, Defense, Participation
from fedinv.defense_terms import homomorphic
from fedinv.defense_terms.homomorphic import RECORD, CkksTerms
from fedinv.federation import wire


class Homomorphic(CkksTerms, Defense):
    """The server learns the weighted sum of the updates, rounded, and nothing else of them.

    Claims no differential privacy: the sum itself may reveal records.

    Who can decrypt: one client of each round, the holder of the key, and nobody else. It generates a pair of keys,
    keeps the secret one, decrypts one vector with it, the sum that the server sends, and deletes it. The other
    clients get the public key through the server.

    What it does not protect from: a server and a key holder who work together read every update. A server that does not
    follow the protocol can have one client's ciphertext decrypted instead of the sum (and has no sum then), or hand out
    a public key of its own, which no client can distinguish from the holder's. A CKKS decryption reveals the
    ciphertext's noise, and with it the secret key (Li, Micciancio 2021): the key holder rounds the sum to
    `rounding_bits`, which hides that noise but is no proof. A round whose key holder drops out changes nothing; any
    other may drop out.

    Costs about 30 bytes a parameter, and the time to encrypt, some 0.3 s a client for 300,000 parameters.
    """

    kind: Literal["homomorphic"] = "homomorphic"
    neutral: ClassVar[Mapping[str, Any] | None] = {}
    unseeded: ClassVar[str | None] = "its keys are secrets, drawn by TenSEAL from the operating system"
    secure_aggregation: ClassVar[bool] = True
    in_clear: ClassVar[str | None] = "the number of examples and the weight of each client, and who took part"

    def misfit(self, cohort: int) -> str | None:
        """Refuse to work without TenSEAL."""
        return None if homomorphic.installed() else homomorphic.INSTALL

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters in force, with the number of clients behind the sum."""
        return {**self.model_dump(), "max_weight": self.heaviest(taken.heaviest), "cohort": taken.cohort}

    def carry(self, message: Message, context: Context, call_next: CallNext, carrying: Carrying) -> Message:
        """Generate keys, train and encrypt, or decrypt the sum.

        Raises ValueError for a message of another protocol, an update that leaves the range, or a key already used.
        """
        asked = message.content.config_records.get(RECORD, ConfigRecord())
        stage = asked.get("stage")
        if stage == "keys":
            secret, public = homomorphic.keys(self.scale_bits)
            context.state[RECORD] = ConfigRecord({"secret": secret})
            return _answer(message, {"public": public})
        if stage == "open":
            kept = context.state.config_records.pop(RECORD, None)
            if kept is None:
                raise ValueError("its key was used already, or it never had one: nothing is opened twice")
            values = homomorphic.decrypt(cast(bytes, kept["secret"]), cast(list[bytes], asked["ciphertexts"]))
            steps = 2.0**self.rounding_bits
            return _answer(message, {"sum": (np.round(values * steps) / steps).astype("<f8").tobytes()})
        if stage != "encrypt":
            raise ValueError("the server asks for an update that is not encrypted")
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        values = _vector(reply, self.heaviest(carrying.taken.heaviest))
        _check(values, homomorphic.largest(self.scale_bits, carrying.taken.cohort))
        encrypted = ConfigRecord({"ciphertexts": homomorphic.encrypt(cast(bytes, asked["public"]), values)})
        metrics = reply.content.metric_records["metrics"]
        return Message(RecordDict({RECORD: encrypted, "metrics": metrics}), reply_to=message)


def _vector(reply: Message, heaviest: float) -> NDArray[np.float64]:
    """The update times the client's weight over the largest weight, as one vector, float64 (parameters,)."""
    weight = float(cast(float, reply.content.metric_records["metrics"]["weight"]))
    if weight > heaviest:
        raise ValueError(f"its weight {weight:g} is above max_weight {heaviest:g}, and the sum could overflow")
    update = wire.unpack(reply.content.array_records["update"])
    return np.concatenate([t.double().numpy().ravel() for t in update.values()]) * (weight / heaviest)


def _check(values: NDArray[np.float64], limit: float) -> None:
    largest = float(np.abs(values).max())
    if not largest <= limit:  # NaN is refused too
        raise ValueError(
            f"its update times weight / max_weight reaches {largest:.3g}, beyond the {limit:.3g} of which the cohort's "
            "sum can be opened: lower scale_bits or list a defense that clips before it"
        )


def _answer(message: Message, content: dict[str, Any]) -> Message:
    return Message(RecordDict({RECORD: ConfigRecord(content)}), reply_to=message)
