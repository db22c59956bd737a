"""Tokens and keys for the tests, made on the spot; also such as no library would make."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from siger_gateway.filters.key_set import KeySet

NOW = 1_700_000_000.0
"""Unix time of the tests."""
SECRET = "kq3Vv0m1c7Zt9xW5bN2yR8sD4fG6hJ0lPoIuYtReWqAzSxDcFvGbHnJmK1L2o3P4"
"""64 bytes: enough for HS512."""

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())
K256 = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

CLAIMS: dict[str, Any] = {"user_id": "u-1", "role": "user", "iat": NOW, "exp": NOW + 60}


def part(value: object) -> bytes:
    """One part of a token. A str or bytes stands for itself, anything else for its JSON."""
    data = value.encode() if isinstance(value, str) else value
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return urlsafe_b64encode(data).rstrip(b"=")


def token(
    claims: object = CLAIMS, key: Private | str = SECRET, alg: str = "HS256", **header: Any
) -> bytes:
    """A token with a good signature, whatever else may be wrong with it."""
    return seal(part({"typ": "JWT", "alg": alg, **header}), part(claims), key, alg)


def seal(header: bytes, payload: bytes, key: Any = SECRET, alg: str = "HS256") -> bytes:
    """Signs two parts as they are."""
    signed = header + b"." + payload
    key = key.encode() if isinstance(key, str) else key
    return signed + b"." + part(get_default_algorithms()[alg].sign(signed, key))


def jwk(key: Private, kid: str | None, **members: Any) -> dict[str, Any]:
    """The public half."""
    public: Any = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        found = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
    return {**found, **({} if kid is None else {"kid": kid}), **members}


def document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


async def key_set_of(*keys: object) -> KeySet:
    """A set with these keys, which fetches no more."""

    async def fetch() -> bytes:
        return document(*keys)

    key_set = KeySet("test", fetch)
    key_set.start()
    await key_set.refreshed(None)
    await key_set.close()
    return key_set
