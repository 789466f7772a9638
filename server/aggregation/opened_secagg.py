"""Unmasks every single update behind SecAgg+, by a server that deviates from the protocol.

Each client reveals its share of one secret of each neighbor: that of its own mask if the server says that the neighbor
is present, that of its key if it says that it dropped out. Flower's client does not check whether a neighbor is on both
lists. Both secrets together remove every mask (Bonawitz et al. 2017, section 6, has the clients agree on the lists
first).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp import Grid
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from numpy.typing import NDArray

from fedinv.defense_terms.secagg_plus import MODULUS

Vector = list[NDArray[np.int64]]
"""A client's quantized weight, then its quantized weighted parameters, integers modulo 2^32."""


@dataclass(frozen=True)
class Secrets:
    """The two secrets of each client, by node, as far as enough shares of them were revealed."""

    masks: Mapping[int, bytes]
    """Seed of each client's own mask."""
    keys: Mapping[int, bytes]
    """Private key of each client, from which the masks that it shares with its neighbors are drawn."""


@dataclass
class _Shares:
    masks: dict[int, list[bytes]] = field(default_factory=dict)
    keys: dict[int, list[bytes]] = field(default_factory=dict)


def ask(grid: Grid, state: WorkflowState, round_: int) -> Secrets:
    """Name every neighbor both as present and as dropped out, and combine the shares that clients reveal."""
    shares, shared = _Shares(), state.sampled_node_ids
    messages = []
    for node in state.active_node_ids:
        both = sorted(state.nid_to_neighbours[node] & shared)
        lists = ConfigRecord({Key.STAGE: Stage.UNMASK, Key.ACTIVE_NODE_ID_LIST: both, Key.DEAD_NODE_ID_LIST: both})
        content = RecordDict({RECORD_KEY_CONFIGS: lists})
        messages.append(Message(content, node, "train", group_id=str(round_)))
    for reply in grid.send_and_receive(messages):
        if reply.has_error():
            continue
        revealed = reply.content.config_records[RECORD_KEY_CONFIGS]
        owners, parts = cast(list[int], revealed[Key.NODE_ID_LIST]), cast(list[bytes], revealed[Key.SHARE_LIST])
        for place, (owner, part) in enumerate(zip(owners, parts, strict=True)):
            kind = shares.masks if place < len(owners) // 2 else shares.keys
            kind.setdefault(owner, []).append(part)
    return Secrets(_combined(shares.masks, state.threshold), _combined(shares.keys, state.threshold))


def opened(node: int, vector: Sequence[NDArray[np.int64]], secrets: Secrets, state: WorkflowState) -> Vector | None:
    """A client's quantized vector with all masks removed; None where one of its secrets is missing."""
    if node not in secrets.masks or node not in secrets.keys:
        return None
    shapes = [array.shape for array in vector]
    bare = [a - m for a, m in zip(vector, pseudo_rand_gen(secrets.masks[node], MODULUS, shapes), strict=True)]
    key = bytes_to_private_key(secrets.keys[node])
    for other in (state.nid_to_neighbours[node] & state.sampled_node_ids) - {node}:
        public = bytes_to_public_key(state.nid_to_publickeys[other][0])
        sign = -1 if node > other else 1
        mask = pseudo_rand_gen(generate_shared_key(key, public), MODULUS, shapes)
        bare = [a + sign * m for a, m in zip(bare, mask, strict=True)]
    return [array % MODULUS for array in bare]


def _combined(shares: Mapping[int, list[bytes]], threshold: int) -> dict[int, bytes]:
    return {owner: combine_shares(parts) for owner, parts in shares.items() if len(parts) >= threshold}
