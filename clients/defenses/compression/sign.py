"""Sends signs, and one size for each parameter.

Bernstein, Wang, Azizzadenesheli, Anandkumar 2018 (signSGD); the mean absolute value as scale and the error feedback are
those of Karimireddy, Rebjock, Stich, Jaggi 2019 (Error feedback fixes SignSGD), algorithm 1.
"""

from typing import Literal

import torch

from fedinv.defense import Defense, Sending, Update


class Sign(Defense):
    """update -> sign(update) * mean absolute value, parameter by parameter.

    Claims no differential privacy: heuristic, as compression. Costs 1 bit for each entry, down from 32; hardly any
    time.
    """

    kind: Literal["sign"] = "sign"
    never_neutral = "an update of signs never is the update, whatever their size"
    compresses = True
    after_noise = (
        "the sign of an entry that is mostly noise is a coin, and its size is gone: the claim would hold, but the "
        "model would hardly learn; list sign alone, or quantize after the noise"
    )
    error_feedback: bool = True
    """True: the part of the update that the sign loses is added to the next round's update; it converges better."""

    def protect(self, update: Update, sending: Sending) -> Update:
        """Return signs times the mean absolute value of each parameter; entries that are not finite count as 0."""
        update = {name: torch.nan_to_num(tensor, 0.0, 0.0, 0.0) for name, tensor in update.items()}
        if self.error_feedback:
            update = {name: tensor + sending.memory.get(name, 0.0) for name, tensor in update.items()}
        # an entry of 0 is sent as positive: one bit has no third value
        sent = {name: torch.where(tensor < 0, -1.0, 1.0) * tensor.abs().mean() for name, tensor in update.items()}
        if self.error_feedback:
            sending.memory.update({name: tensor - sent[name] for name, tensor in update.items()})
        return sent
