"""A JSON Web Key Set (RFC 7517), read: which of its keys may check which signatures.

A key that cannot be used, or should not, is left out and the others serve: issuers publish keys for
encryption beside those for signatures, and add new kinds when they like.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from siger_gateway.filters.claims import read_object

MOST_BYTES: Final = 256 * 1024
"""Bytes of a document. Those of large issuers have 2 to 40 KiB, with certificates."""
MOST_KEYS: Final = 256
"""Keys in a document; large issuers have 2 to 20."""
LEAST_RSA_BITS: Final = 2048
"""Bits of an RSA key (RFC 7518 section 3.3)."""

_RSA: Final = frozenset(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
_CURVES: Final = {
    ("EC", "P-256"): "ES256",
    ("EC", "P-384"): "ES384",
    ("EC", "P-521"): "ES512",
    ("OKP", "Ed25519"): "EdDSA",
}
"""The one algorithm of a curve (RFC 7518 section 3.4, RFC 8037)."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. Two are the same if they have the same ``kid``, algorithms and ``text``.

    :param kid: None: it has no name.
    :param algorithms: those whose signatures it may check.
    :param text: the key itself, as JSON.
    :param public: the same, as PyJWT takes it.
    """

    kid: str | None
    algorithms: frozenset[str]
    text: str
    public: Any = field(compare=False, repr=False)


def parse_keys(document: bytes) -> tuple[tuple[Key, ...], tuple[tuple[str, str], ...]]:
    """The keys that can be used, and of the others the ``kid`` and why not.

    :raises ValueError: if the document is no key set.
    """
    if len(document) > MOST_BYTES:
        raise ValueError(f"the key set has more than {MOST_BYTES} bytes")
    members = read_object(document).get("keys")
    if not isinstance(members, list):
        raise ValueError('the key set has no list "keys"')
    if len(members) > MOST_KEYS:
        raise ValueError(f"the key set has more than {MOST_KEYS} keys")
    keys: list[Key] = []
    taken: set[tuple[str, str]] = set()
    skipped: list[tuple[str, str]] = []
    for number, jwk in enumerate(members):
        try:
            key = _parse(jwk)
            if key.kid is not None:
                names = {(key.kid, algorithm) for algorithm in key.algorithms}
                if names & taken:
                    raise ValueError("another key of this kind has the same kid")
                taken |= names
            keys.append(key)
        except (ValueError, TypeError, PyJWTError, UnsupportedAlgorithm) as error:
            kid = jwk.get("kid") if isinstance(jwk, dict) else None
            skipped.append((str(kid or f"number {number}")[:80], str(error)[:200]))
    return tuple(keys), tuple(skipped)


def _parse(jwk: object) -> Key:
    """:raises ValueError, TypeError, PyJWTError, UnsupportedAlgorithm: the key cannot be used."""
    if not isinstance(jwk, dict):
        raise ValueError("it is not an object")
    kind, curve, kid = jwk.get("kty"), jwk.get("crv"), jwk.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is not a string")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("it is not for signatures (use)")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("it is not for checking signatures (key_ops)")
    if kind == "oct":
        # Whoever can read the set could sign with it.
        raise ValueError("it is a shared secret, and published")
    if "d" in jwk:
        raise ValueError("it is a private key, and published")
    if kind == "RSA":
        public: Any = RSAAlgorithm.from_jwk(jwk)
        if public.key_size < LEAST_RSA_BITS:
            raise ValueError(f"it has {public.key_size} bits; RSA needs {LEAST_RSA_BITS}")
        algorithms = _RSA
    elif isinstance(kind, str) and isinstance(curve, str) and (kind, curve) in _CURVES:
        public = (ECAlgorithm if kind == "EC" else OKPAlgorithm).from_jwk(jwk)
        algorithms = frozenset((_CURVES[kind, curve],))
    else:
        raise ValueError(f"its kind is not known (kty {kind}, crv {curve})")
    if "alg" in jwk:
        algorithms &= {jwk["alg"]} if isinstance(jwk["alg"], str) else set()
        if not algorithms:
            raise ValueError(f"its alg does not fit its kind ({jwk['alg']})")
    text = json.dumps([jwk.get(part) for part in ("kty", "crv", "n", "e", "x", "y")])
    return Key(kid, algorithms, text, public)
