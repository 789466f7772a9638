"""Clients compare what they were sent by a channel of their own."""

from typing import Literal

from fedinv.detector import NOTHING, Detector, Look, Weights, digest


class BroadcastHash(Detector):
    """Share of the round's clients that were sent other weights than this one, by the digests that clients publish.

    Flags whatever sends clients different weights, as `inconsistency` and `blocks` do, and nothing that is the same for
    all. It needs a channel that the server cannot write to: every client publishes the signed SHA-256 of what it was
    sent, and waits for those of the others before it trains. In a simulation the digests come with the message, of what
    was really sent to each client, and no signature is checked; a deployment needs a key for each client, known to all
    others, a board, and a round trip more. A client whose own digest is not among them counts all as different.

    Paper: Pasquini, Francati and Ateniese (2022), Eluding secure aggregation in federated learning via model
    inconsistency: the attack that this answers.
    """

    kind: Literal["broadcast-hash"] = "broadcast-hash"
    """Selects this detector: different weights for other clients."""
    threshold: float = 0.0
    """Score above which weights are flagged: a share of the round's clients, 0 to 1."""

    def score(self, received: Weights, look: Look) -> float:
        """The share of the other clients' digests that differ."""
        if len(look.digests) < 2:
            return NOTHING
        own = digest(received)
        if own not in look.digests:
            return 1.0
        return sum(one != own for one in look.digests) / (len(look.digests) - 1)
