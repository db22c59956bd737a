"""JSON Web Tokens (RFC 7519): whether one is to be believed, and who it speaks for.

The order is that of RFC 8725. The header only chooses among what the configuration allows: the
algorithm has to be one of those named, the key comes from the secret or the key set and never from
the token, and nothing of the payload is read before the signature has been checked. Signatures are
PyJWT's; taking the token apart is done here, once and strictly, so that a token has exactly one
spelling.

A token that was good is remembered until it expires, so that it costs one look-up afterwards. The
memory has two halves: when the young one is full it becomes the old one, which is dropped, and what
is asked for in between moves back. So tokens in use stay, however many others come. Bad tokens are
not remembered: whoever sends many can make each one different.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, Final, Protocol

from jwt.algorithms import get_default_algorithms, has_crypto
from jwt.exceptions import InvalidKeyError

from siger_gateway.config.signing import KEY_ALGORITHMS, misfit
from siger_gateway.errors import GatewayError
from siger_gateway.filters.claims import identify, is_name, read_object
from siger_gateway.filters.identity import Identity
from siger_gateway.filters.key_set import KeySet

MOST_BYTES: Final = 8192
"""Bytes of a token: what nginx and Apache take for one header field."""
LEEWAY: Final = 30.0
"""Seconds by which clocks may differ: between nginx (0) and Envoy (60). NTP keeps them within 1."""
CAPACITY: Final = 10_000
"""Tokens that are remembered: 17 MB when all are as long as ``WHOLE`` (tracemalloc)."""
NAMES: Final = 8
"""Roles and scopes that count as one token more: they take half of its memory. Otherwise 10,000
tokens of 1,000 roles would take 850 MB."""
WHOLE: Final = 1024
"""Bytes up to which a token is remembered as it is; a longer one by its SHA-256."""

# RFC 8725 section 3.11: logout tokens, DPoP proofs and the like carry a type of their own.
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})


class _Keys(Protocol):
    """Where keys come from: ``KeySet``, or ``_Secret``."""

    epoch: int

    def find(self, kid: str | None, algorithm: str) -> Any: ...


class _Secret:
    """The one key, whatever the token calls it."""

    def __init__(self, secret: bytes) -> None:
        self.epoch = 0
        self._secret = secret

    def find(self, kid: str | None, algorithm: str) -> bytes:
        return self._secret


class TokenVerifier:
    """Verifies tokens of one issuer.

    :param source: the secret (HS256, HS384, HS512), or where the public keys come from.
    :param algorithms: those that are accepted.
    :param issuer: what ``iss`` has to be; "": not checked.
    :param audience: what ``aud`` has to be or to hold; "": not checked.
    :param leeway: seconds by which the issuer's clock may differ from ours.
    :param capacity: tokens to remember; fewer if they have many roles, see ``NAMES``.
    :raises ValueError: if the algorithms do not fit the source, the secret cannot be one, or
        ``cryptography`` is needed and not installed.
    """

    def __init__(
        self,
        source: str | KeySet,
        algorithms: tuple[str, ...],
        issuer: str = "",
        audience: str = "",
        leeway: float = LEEWAY,
        capacity: int = CAPACITY,
    ) -> None:
        if why := misfit(algorithms, "secret" if isinstance(source, str) else "keys"):
            raise ValueError(why)
        if not has_crypto and not KEY_ALGORITHMS.isdisjoint(algorithms):
            raise ValueError(
                f"{', '.join(algorithms)} cannot be checked without the package cryptography: "
                'install "siger-gateway[jwks]"'
            )
        known = get_default_algorithms()
        self._algorithms = {name: known[name] for name in algorithms}
        self._keys: _Keys = source if isinstance(source, KeySet) else _secret(source, algorithms[0])
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._half = max(capacity // 2, 1)
        self._weight = 0  # of the young half
        self._epoch = self._keys.epoch
        # A digest is a str and a token is bytes, so that neither passes for the other.
        self._young: dict[bytes | str, Identity] = {}
        self._old: dict[bytes | str, Identity] = {}

    def __repr__(self) -> str:
        remembered = len(self._young) + len(self._old)
        return f"<TokenVerifier {' '.join(self._algorithms)} remembered={remembered}>"

    def verify(self, token: bytes, now: float) -> Identity:
        """Who the token speaks for.

        :param now: Unix time, in seconds.
        :raises KeyMissing: as ``KeySet.find``.
        :raises GatewayError: with the reason why the token is refused.
        """
        if self._keys.epoch != self._epoch:
            self._epoch = self._keys.epoch
            self._young, self._old, self._weight = {}, {}, 0
        place: bytes | str = token
        if len(token) > WHOLE:
            if len(token) > MOST_BYTES:
                raise _malformed(f"The token has more than {MOST_BYTES} bytes.")
            place = sha256(token).hexdigest()
        identity = self._young.get(place)
        if identity is None:
            identity = self._old.get(place) or self._verify(token, now)
            self._remember(place, identity)
        if now >= identity.expires:
            raise GatewayError("token_expired")
        return identity

    def _remember(self, place: bytes | str, identity: Identity) -> None:
        if self._weight >= self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        self._weight += 1 + (len(identity.roles) + len(identity.scopes)) // NAMES
        self._young[place] = identity

    def _verify(self, token: bytes, now: float) -> Identity:
        if token.count(b".") != 2:  # an encrypted one (RFC 7516) has five parts
            raise GatewayError("token_malformed")
        signed, _, ending = token.rpartition(b".")
        beginning, _, middle = signed.partition(b".")
        signature = _decode(ending)
        try:
            header = read_object(_decode(beginning))
        except ValueError:
            raise _malformed("The header of the token is not valid.") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise GatewayError("token_algorithm")
        if "crit" in header or header.get("b64", True) is not True:
            # RFC 7515 section 4.1.11. RFC 7797 section 7 forbids b64=false in a JWT.
            raise _malformed("The header of the token demands an extension that is not supported.")
        kind = header.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise GatewayError("token_type")
        kid = header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise _malformed("The name of the key is not valid.")
        key = self._keys.find(kid, algorithm)
        if not self._algorithms[algorithm].verify(signed, key, signature):
            raise GatewayError("token_signature")
        try:
            claims = read_object(_decode(middle))
        except ValueError:
            raise _malformed("The payload of the token is not valid.") from None
        return identify(claims, self._issuer, self._audience, self._leeway, now)


def mint(
    user: str,
    role: str,
    secret: str,
    algorithm: str,
    lifetime: float,
    issuer: str,
    audience: str,
    now: float,
) -> str:
    """A token as the platform's own, for trying things out.

    :param role: "": none; likewise ``issuer`` and ``audience``.
    :param lifetime: seconds.
    :param now: Unix time, in seconds.
    :raises ValueError: if no gateway would accept it.
    """
    if why := misfit((algorithm,), "secret"):
        raise ValueError(why)
    for name in (user, role) if role else (user,):
        if not is_name(name):
            raise ValueError(f"{name!r} cannot be used: it has to be printable ASCII")
    if lifetime <= 0:
        raise ValueError("the lifetime has to be more than 0 seconds")
    key = _secret(secret, algorithm).find(None, algorithm)
    claims: dict[str, object] = {"sub": user, "user_id": user, "iat": int(now)}
    claims["exp"] = int(now + lifetime)
    claims |= {
        claim: value
        for claim, value in (("role", role), ("iss", issuer), ("aud", audience))
        if value
    }
    header = {"alg": algorithm, "typ": "JWT"}
    signed = b".".join(_encode(json.dumps(one).encode()) for one in (header, claims))
    signature = get_default_algorithms()[algorithm].sign(signed, key)
    return (signed + b"." + _encode(signature)).decode()


def _secret(secret: str, algorithm: str) -> _Secret:
    """:raises ValueError: if it is empty, or a public key."""
    try:
        return _Secret(get_default_algorithms()[algorithm].prepare_key(secret))
    except InvalidKeyError as error:
        raise ValueError(str(error)) from None


def _malformed(detail: str) -> GatewayError:
    return GatewayError("token_malformed", detail)


def _encode(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _decode(part: bytes) -> bytes:
    """base64url without padding (RFC 7515 section 2), in the one spelling that it has.

    :raises GatewayError: if it is anything else.
    """
    try:
        data = urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        data = b""
    if _encode(data) != part:  # the decoder skips what it does not know, and bits at the end
        raise GatewayError("token_malformed")
    return data
