"""Vectors that add up while they are encrypted: CKKS, by TenSEAL (Microsoft SEAL), which is an optional dependency.

Cheon, Kim, Kim, Song 2017. Polynomials of degree 4096 over moduli of 55 and 54 bits: 128 bits of security by the
homomorphic encryption standard (Albrecht et al. 2018, table 1, allows 109 bits), one level, which is for sums alone.
"""

import importlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fedinv.strict import Strict

RECORD = "homomorphic"
"""Name of the record that a round's messages carry: its `stage` is keys, encrypt or open."""
INSTALL = "needs TenSEAL, which is not installed: pip install 'fedinv[homomorphic]'"
SLOTS = 2048
"""Values in one ciphertext."""
_MODULI = (55, 54)


class CkksTerms(Strict):
    """What a scenario says of homomorphic encryption beside its kind."""

    scale_bits: int = Field(default=40, ge=24, le=46)
    """Values are encoded in steps of 2^-scale_bits: more of them leave less room, 2^(53 - scale_bits) over the clients
    of a round for an entry of the update times the client's weight over max_weight."""
    rounding_bits: int = Field(default=20, ge=8, le=40)
    """The holder of the key rounds the opened sum to steps of 2^-rounding_bits."""
    max_weight: float | None = Field(default=None, gt=0)
    """What a client can count at most in the mean, in records. Where it is absent, what the training table tells: the
    batch size under fedsgd, records_per_client, or 1000."""

    def heaviest(self, limit: float | None) -> float:
        """What a client can count at most, where the training table sets this limit."""
        return self.max_weight or limit or 1000.0


def terms(defense: Mapping[str, Any]) -> CkksTerms:
    """Read the terms from a scenario's table of the defense."""
    return CkksTerms.model_validate({key: value for key, value in defense.items() if key != "kind"})


def installed() -> bool:
    """Whether TenSEAL is there."""
    return find_spec("tenseal") is not None


def keys(scale_bits: int) -> tuple[bytes, bytes]:
    """A fresh secret key, and the public key that belongs to it; values are encoded in steps of 2^-scale_bits."""
    tenseal = _tenseal()
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 2 * SLOTS, coeff_mod_bit_sizes=list(_MODULI))
    context.global_scale = 2.0**scale_bits
    without = {"save_galois_keys": False, "save_relin_keys": False}
    secret = context.serialize(save_public_key=True, save_secret_key=True, **without)
    return secret, context.serialize(save_public_key=True, save_secret_key=False, **without)


def largest(scale_bits: int, terms: int) -> float:
    """Largest absolute value of which so many add up without leaving the modulus, with a factor of 2 to spare."""
    return 2.0 ** (_MODULI[0] - scale_bits - 2) / terms


def encrypt(public: bytes, values: NDArray[np.float64]) -> list[bytes]:
    """Encrypt float64 (n,) into ceil(n / 2048) ciphertexts."""
    tenseal = _tenseal()
    context = tenseal.context_from(public)
    parts = (values[start : start + SLOTS] for start in range(0, len(values), SLOTS))
    return [tenseal.ckks_vector(context, part).serialize() for part in parts]


class Sum:
    """Adds up encrypted vectors of one length as they come, without the secret key."""

    def __init__(self, public: bytes, count: int) -> None:
        self._context = _tenseal().context_from(public)
        self._sizes = [min(SLOTS, count - start) for start in range(0, count, SLOTS)]
        self._total: list[Any] = []

    def add(self, ciphertexts: Sequence[bytes]) -> None:
        """Add one more. Raises ValueError for what is no encrypted vector of this length."""
        try:
            loaded = [_tenseal().ckks_vector_from(self._context, one) for one in ciphertexts]
            sizes = [one.size() for one in loaded]
            total = [a + b for a, b in zip(self._total, loaded, strict=True)] if self._total else loaded
        except Exception as error:  # SEAL raises whatever comes to it
            raise ValueError(f"ciphertexts that cannot be added ({type(error).__name__})") from error
        if sizes != self._sizes:
            raise ValueError(f"ciphertexts of {sum(sizes)} values instead of {sum(self._sizes)}")
        self._total = total

    def ciphertexts(self) -> list[bytes]:
        """The sum, encrypted."""
        return [one.serialize() for one in self._total]


def decrypt(secret: bytes, ciphertexts: Sequence[bytes]) -> NDArray[np.float64]:
    """The values again, with an error of about 1e-9 for steps of 2^-40."""
    tenseal = _tenseal()
    context = tenseal.context_from(secret)
    parts = [tenseal.ckks_vector_from(context, one).decrypt() for one in ciphertexts]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def _tenseal() -> Any:
    if not installed():
        raise ImportError(f"homomorphic {INSTALL}")
    return importlib.import_module("tenseal")
