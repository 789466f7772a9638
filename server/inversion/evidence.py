"""Whether an update can tell anything of its records: asked before an attack computes with it."""

from fedinv.attack import Exchange


def unreadable(exchange: Exchange) -> str | None:
    """Why an exchange cannot be computed with, in the words of a note; None where it can."""
    sent, received = exchange.sent, exchange.received
    if exchange.records < 1:
        return "the message counts no records"
    if not received or received.keys() != sent.keys():
        return "there is no update with the parameters that were sent, as if it were masked"
    if any(received[name].shape != tensor.shape for name, tensor in sent.items()):
        return "the update is not of the shapes that were sent"
    if not all(tensor.is_floating_point() for tensor in received.values()):
        return "the update is of whole numbers, as if it were masked"
    if not all(bool(tensor.isfinite().all()) for part in (sent, received) for tensor in part.values()):
        return "the model or the update holds values that are not finite"
    return None


def unusable(exchange: Exchange) -> str | None:
    """Why an exchange tells nothing of its records, in the words of a note; None where it may tell something."""
    reason = unreadable(exchange)
    if reason is None and not any(bool(tensor.any()) for tensor in exchange.received.values()):
        return "the update is zero"
    return reason
