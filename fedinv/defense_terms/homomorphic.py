"""Additively homomorphic encryption of vectors (CKKS) by TenSEAL (Microsoft SEAL), an optional dependency.

Cheon, Kim, Kim, Song 2017. Polynomials of degree 4096 over moduli of 55 and 54 bits: 128 bits of security by the
homomorphic encryption standard (Albrecht et al. 2018, table 1, allows 109 bits), one level, which suffices for sums.
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
"""Name of the record in a round's messages; its `stage` is keys, encrypt or open."""
INSTALL = "needs TenSEAL, which is not installed: pip install 'fedinv[homomorphic]'"
SLOTS = 2048
"""Number of values in one ciphertext."""
_MODULI = (55, 54)


class CkksTerms(Strict):
    """Keys of homomorphic encryption in a scenario, without `kind`."""

    scale_bits: int = Field(default=40, ge=24, le=46)
    """Bits of resolution: values are encoded in steps of 2^-scale_bits. More bits leave a smaller range: an entry of
    the update, times the client's weight over max_weight, may be at most 2^(53 - scale_bits) over the clients of a
    round; a client that exceeds it is left out."""
    rounding_bits: int = Field(default=20, ge=8, le=40)
    """Bits of resolution of the decrypted sum: the key holder rounds it to steps of 2^-rounding_bits, which hides the
    noise of the ciphertext."""
    max_weight: float | None = Field(default=None, gt=0)
    """Largest weight of a client in the mean, in records; a client that weighs more is left out of the round. Default:
    the batch size under fedsgd, records_per_client under fedavg, else 1000."""

    def heaviest(self, limit: float | None) -> float:
        """Largest weight of a client, in records: max_weight, else the training table's `limit`, else 1000."""
        return self.max_weight or limit or 1000.0


def terms(defense: Mapping[str, Any]) -> CkksTerms:
    """Read the parameters from the defense's table in a scenario."""
    return CkksTerms.model_validate({key: value for key, value in defense.items() if key != "kind"})


def installed() -> bool:
    """Whether TenSEAL is installed."""
    return find_spec("tenseal") is not None


def keys(scale_bits: int) -> tuple[bytes, bytes]:
    """Generate a secret key and its public key, serialized; values are encoded in steps of 2^-scale_bits."""
    tenseal = _tenseal()
    context = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 2 * SLOTS, coeff_mod_bit_sizes=list(_MODULI))
    context.global_scale = 2.0**scale_bits
    without = {"save_galois_keys": False, "save_relin_keys": False}
    secret = context.serialize(save_public_key=True, save_secret_key=True, **without)
    return secret, context.serialize(save_public_key=True, save_secret_key=False, **without)


def largest(scale_bits: int, terms: int) -> float:
    """Largest absolute value of each of `terms` summands whose sum stays within the modulus, with a margin of 2."""
    return 2.0 ** (_MODULI[0] - scale_bits - 2) / terms


def encrypt(public: bytes, values: NDArray[np.float64]) -> list[bytes]:
    """Encrypt float64 (n,) into ceil(n / 2048) ciphertexts."""
    tenseal = _tenseal()
    context = tenseal.context_from(public)
    parts = (values[start : start + SLOTS] for start in range(0, len(values), SLOTS))
    return [tenseal.ckks_vector(context, part).serialize() for part in parts]


def is_key(public: bytes) -> bool:
    """Whether these bytes are a public key that can encrypt and add."""
    try:
        encrypt(public, np.zeros(1))
    except ImportError:
        raise
    except Exception:  # SEAL raises many types
        return False
    return True


class Sum:
    """Adds up encrypted vectors of `count` values one by one, without the secret key."""

    def __init__(self, public: bytes, count: int) -> None:
        self._context = _tenseal().context_from(public)
        self._sizes = [min(SLOTS, count - start) for start in range(0, count, SLOTS)]
        self._total: list[Any] = []

    def add(self, ciphertexts: Sequence[bytes]) -> None:
        """Add one vector's ciphertexts. Raises ValueError for what is no encrypted vector of this length."""
        try:
            loaded = [_tenseal().ckks_vector_from(self._context, one) for one in ciphertexts]
            sizes = [one.size() for one in loaded]
            total = [a + b for a, b in zip(self._total, loaded, strict=True)] if self._total else loaded
        except Exception as error:  # SEAL raises many types
            raise ValueError(f"ciphertexts that cannot be added ({type(error).__name__})") from error
        if sizes != self._sizes:
            raise ValueError(f"ciphertexts of {sum(sizes)} values instead of {sum(self._sizes)}")
        self._total = total

    def ciphertexts(self) -> list[bytes]:
        """Ciphertexts of the sum, serialized."""
        return [one.serialize() for one in self._total]


def decrypt(secret: bytes, ciphertexts: Sequence[bytes]) -> NDArray[np.float64]:
    """Decrypt to float64 (n,), with an error of about 1e-9 for steps of 2^-40."""
    tenseal = _tenseal()
    context = tenseal.context_from(secret)
    parts = [tenseal.ckks_vector_from(context, one).decrypt() for one in ciphertexts]
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def _tenseal() -> Any:
    if not installed():
        raise ImportError(f"homomorphic {INSTALL}")
    return importlib.import_module("tenseal")
