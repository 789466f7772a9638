"""The server's part of homomorphic encryption: relays the public key, adds ciphertexts, and has the sum decrypted.

It never has the secret key; clients/defenses/aggregation/homomorphic.py says who has it, and what that does not
protect from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from torch import Tensor

from fedinv.defense_terms import homomorphic
from fedinv.defense_terms.homomorphic import RECORD
from fedinv.errors import plain
from fedinv.federation import wire
from fedinv.federation.agreement import Agreement
from fedinv.federation.reply_codes import HALTED

from ..messaging import ask
from ..wiretap import first_line
from . import Gathered, Summed, size


def gather(grid: Grid, messages: Sequence[Message], timeout: float, agreement: Agreement) -> Gathered:
    """Ask for keys, for encrypted updates, and for the decrypted sum.

    The update in a client's reply is the beginning of its ciphertext, uint32: all that the server can see of it.
    """
    heaviest = homomorphic.terms(agreement.defense("homomorphic") or {}).heaviest(agreement.training.heaviest)
    round_ = _Round(grid, {message.metadata.dst_node_id: message for message in messages}, timeout)
    holder, public = round_.keys()
    if not public:
        return round_.halted("no client made a key")
    total = round_.updates(public)
    if len(round_.seen) < 2:
        return round_.halted(f"{len(round_.seen)} clients sent an update that can be added, and a sum takes two")
    values = round_.open(holder, total)
    if values is None:
        told = first_line(round_.failed[holder].error.reason) if holder in round_.failed else "no answer"
        return round_.halted(f"the client that holds the key did not open it ({told})")
    mean = _named(torch.from_numpy(values) * (heaviest / math.fsum(round_.weights.values())), round_.sent)
    return Gathered(round_.replies(), Summed(mean, "", round_.bytes_up))


Asked = Mapping[str, str | bytes | list[bytes]]


@dataclass
class _Round:
    """The messages of one round."""

    grid: Grid
    asked: Mapping[int, Message]
    """The strategy's message to each node."""
    timeout: float
    """Seconds to wait for the replies of each exchange."""
    seen: dict[int, Message] = field(default_factory=dict)
    """Reply of each client whose update is in the sum, as the server sees it."""
    weights: dict[int, float] = field(default_factory=dict)
    """Weight of each of these clients in the sum."""
    failed: dict[int, Message] = field(default_factory=dict)
    """Error reply of each client whose update is not in the sum."""
    bytes_up: int = 0
    """Bytes that clients sent in all exchanges."""

    @property
    def sent(self) -> Mapping[str, Tensor]:
        """The global model's parameters by name, whose shapes the update has."""
        return wire.view(next(iter(self.asked.values())).content.array_records["arrays"])

    def keys(self) -> tuple[int, bytes]:
        """Node of the first client that makes a pair of keys, and its public key; (0, b"") where none does."""
        for node in self.asked:
            for reply in self._ask({node: {"stage": "keys"}}):
                public = reply.content.config_records.get(RECORD, ConfigRecord()).get("public")
                if isinstance(public, bytes) and homomorphic.is_key(public):
                    return node, public
                self._fail(node, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "sent no key that can be used")
        return 0, b""

    def updates(self, public: bytes) -> homomorphic.Sum:
        """The encrypted sum of all updates that can be added; other clients' replies become errors."""
        total = homomorphic.Sum(public, sum(tensor.numel() for tensor in self.sent.values()))
        for reply in self._ask({node: {"stage": "encrypt", "public": public} for node in self.asked}, True):
            node = reply.metadata.src_node_id
            try:
                ciphertexts = cast(list[bytes], reply.content.config_records[RECORD]["ciphertexts"])
                metrics = reply.content.metric_records["metrics"]
                examples, weight = metrics["num-examples"], metrics["weight"]
                problem = wire.count_fault(examples, weight, None)
                if problem is not None:
                    raise ValueError(problem)
                total.add(ciphertexts)
            except Exception as error:  # a client may send anything
                problem = plain(f"sent a reply that cannot be read ({type(error).__name__}: {error})")
                self._fail(node, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, problem)
                continue
            words = np.frombuffer(b"".join(ciphertexts), "<u4", count=sum(map(len, ciphertexts)) // 4)
            update = _named(torch.from_numpy(words.astype(np.uint32)), self.sent)
            content = RecordDict({"update": wire.pack(update), "metrics": metrics})
            self.weights[node] = cast(float, weight)
            self.seen[node] = Message(content, reply_to=self.asked[node])
        return total

    def open(self, holder: int, total: homomorphic.Sum) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
        """The decrypted sum from the client that holds the key, float64 (parameters,); None where it is unusable."""
        for reply in self._ask({holder: {"stage": "open", "ciphertexts": total.ciphertexts()}}):
            opened = reply.content.config_records.get(RECORD, ConfigRecord()).get("sum")
            if isinstance(opened, bytes) and len(opened) == 8 * sum(tensor.numel() for tensor in self.sent.values()):
                values = np.frombuffer(opened, "<f8").copy()
                return values if bool(np.isfinite(values).all()) else None
        return None

    def halted(self, why: str) -> Gathered:
        """The outcome of a round without a sum, for the reason given."""
        reason = f"cannot be used: the round has no sum, {why}"
        for node in set(self.asked) - set(self.seen) - set(self.failed):
            self._fail(node, HALTED, reason)
        return Gathered(self.replies(), Summed(None, reason, self.bytes_up))

    def replies(self) -> list[Message]:
        """One reply for each client that answered: its update as seen, or an error."""
        return list((self.failed | self.seen).values())

    def _ask(
        self, what: Mapping[int, Mapping[str, str | bytes | list[bytes]]], training: bool = False
    ) -> list[Message]:
        """Send each node its record, with the model where it is to train; return the replies that are no errors."""
        messages = []
        for node, record in what.items():
            asked = self.asked[node]
            content = RecordDict({**(asked.content if training else {}), RECORD: ConfigRecord(dict(record))})
            messages.append(Message(content, node, "train", group_id=asked.metadata.group_id))
        good = []
        for reply in ask(self.grid, messages, self.timeout):
            self.bytes_up += size(reply)
            if reply.has_error():
                self.failed.setdefault(reply.metadata.src_node_id, reply)
            else:
                good.append(reply)
        return good

    def _fail(self, node: int, code: int, reason: str) -> None:
        self.failed.setdefault(node, Message(Error(code, reason), reply_to=self.asked[node]))


def _named(values: Tensor, sent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Flat values (parameters,) as tensors by name in the parameters' shapes; float64 becomes float32."""
    named, at = {}, 0
    for name, tensor in sent.items():
        part = values[at : at + tensor.numel()].reshape(tensor.shape).clone()
        named[name] = part.float() if part.dtype == torch.float64 else part
        at += tensor.numel()
    return named
