"""Which tokens are believed, and what is said of the others; what is remembered, and for how long.

``BY_SECRET`` and ``BY_KEYS`` are tables: a name, a token, and the reason for which it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm

from siger_gateway.config.signing import misfit, weak_secret
from siger_gateway.errors import GatewayError
from siger_gateway.filters.key_set import KeyMissing, KeySet
from siger_gateway.filters.tokens import LEEWAY, MOST_BYTES, WHOLE, TokenVerifier, mint
from tests.tokens import (
    CLAIMS,
    ED25519,
    NOW,
    OTHER_RSA,
    P256,
    P384,
    P521,
    RSA,
    SECRET,
    jwk,
    key_set_of,
    part,
    seal,
    token,
)

ISSUER, AUDIENCE = "https://issuer.test", "siger"
ALL_KEYS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)


def refusal(verifier: TokenVerifier, text: bytes, now: float = NOW) -> str:
    """The reason for which a token is refused; "": it is accepted."""
    try:
        verifier.verify(text, now)
    except GatewayError as error:
        return error.reason
    return ""


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims, some of them changed; ``...`` takes one out."""
    return {name: value for name, value in {**CLAIMS, **changed}.items() if value is not ...}


def says(**changed: Any) -> bytes:
    return token(claims(**changed))


def raw(payload: str) -> bytes:
    """A payload as it is written here: JSON that no encoder would make."""
    return token(payload.replace("EXP", str(NOW + 60)))


def padded(size: int) -> bytes:
    """A good token of this many bytes, or of the next possible number."""
    length = 0
    while len(found := says(padding="x" * length)) < size:
        length += max((size - len(found)) * 3 // 4, 1)
    return found


GOOD = token()
HEADER, PAYLOAD, SIGNATURE = GOOD.split(b".")
EXP = NOW + 60
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
LAST = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
NON_CANONICAL = GOOD[:-1] + LAST[LAST.index(GOOD[-1:]) + 1 :][:1]  # 32 bytes: two bits are spare


def unsigned(alg: object) -> bytes:
    return part({"alg": alg, "typ": "JWT"}) + b"." + PAYLOAD + b"."


BY_SECRET: list[tuple[str, bytes, str]] = [
    ("good", GOOD, ""),
    ("good without typ", seal(part({"alg": "HS256"}), PAYLOAD), ""),
    ("good of RFC 9068", token(typ="at+JWT"), ""),
    ("good with a kid, which means nothing here", token(kid="any"), ""),
    # Algorithms.
    *((f"alg {name}", unsigned(name), "token_algorithm")
      for name in ("none", "None", "NONE", "nOnE", "none ", "", None, 0, True, [], ["HS256"], {})),
    ("alg none with a signature", part({"alg": "none"}) + b"." + PAYLOAD + b"." + SIGNATURE,
     "token_algorithm"),
    ("alg in lower case", seal(part({"alg": "hs256"}), PAYLOAD), "token_algorithm"),
    ("no alg", seal(part({"typ": "JWT"}), PAYLOAD), "token_algorithm"),
    ("alg that is not pinned", token(alg="HS512"), "token_algorithm"),
    ("alg of key pairs", token(key=RSA, alg="RS256"), "token_algorithm"),
    # The form.
    ("empty", b"", "token_malformed"),
    ("dots", b"..", "token_malformed"),
    ("one part", HEADER, "token_malformed"),
    ("two parts", HEADER + b"." + PAYLOAD, "token_malformed"),
    ("four parts", GOOD + b"." + SIGNATURE, "token_malformed"),
    ("five parts", GOOD + b".e.e", "token_malformed"),
    ("a dot in front", b"." + GOOD, "token_malformed"),
    ("a dot at the end", GOOD + b".", "token_malformed"),
    ("a dot in the payload", seal(HEADER, PAYLOAD + b"." + PAYLOAD), "token_malformed"),
    ("no header", b"." + PAYLOAD + b"." + SIGNATURE, "token_malformed"),
    ("no payload", seal(HEADER, b""), "token_malformed"),
    ("padding at the end", GOOD + b"=", "token_malformed"),
    ("padding in the header", seal(part({"alg": "HS256", "a": 1}) + b"=", PAYLOAD),
     "token_malformed"),
    ("padding in the payload", seal(HEADER, PAYLOAD + b"="), "token_malformed"),
    ("spare bits", NON_CANONICAL, "token_malformed"),
    ("spare bits in the payload", seal(HEADER, PAYLOAD[:-1] + b"-"), "token_malformed"),
    ("plain base64", GOOD.replace(SIGNATURE, b"+/" + SIGNATURE[2:]), "token_malformed"),
    ("a space", GOOD + b" ", "token_malformed"),
    ("a line break", GOOD[:10] + b"\n" + GOOD[10:], "token_malformed"),
    ("a NUL", GOOD + b"\0", "token_malformed"),
    ("not ASCII", "tökén.tökén.tökén".encode(), "token_malformed"),
    ("as large as it may be", padded(MOST_BYTES - 4), ""),
    ("too large", padded(MOST_BYTES + 1), "token_malformed"),
    ("header is a list", seal(part([]), PAYLOAD), "token_malformed"),
    ("header is no JSON", seal(part("{alg}"), PAYLOAD), "token_malformed"),
    ("header is not UTF-8", seal(part(b'{"alg":"HS256","\xff":1}'), PAYLOAD), "token_malformed"),
    ("header is UTF-16", seal(part('{"alg":"HS256"}'.encode("utf-16")), PAYLOAD),
     "token_malformed"),
    ("header with alg twice", seal(part('{"alg":"none","alg":"HS256"}'), PAYLOAD),
     "token_malformed"),
    ("header that is nested deeply", seal(part("[" * 5000), PAYLOAD), "token_malformed"),
    ("payload is a list", token([CLAIMS]), "token_malformed"),
    ("payload is a string", token('"u-1"'), "token_malformed"),
    ("payload is no JSON", token("{"), "token_malformed"),
    ("payload with something behind", raw('{"user_id":"u","exp":EXP}{}'), "token_malformed"),
    ("payload with a byte order mark", raw('\ufeff{"user_id":"u","exp":EXP}'), "token_malformed"),
    ("payload that is nested", says(a=[[[[[[[[{"b": [{}]}]]]]]]]]), ""),
    ("payload that is nested deeply", token("[" * 5000), "token_malformed"),
    ("user twice", raw('{"user_id":"u","user_id":"v","exp":EXP}'), "token_malformed"),
    ("a member twice, deep inside", raw('{"user_id":"u","exp":EXP,"a":[{"b":1,"b":1}]}'),
     "token_malformed"),
    ("a number of 5000 digits", raw('{"user_id":"u","exp":' + "1" * 5000 + "}"),
     "token_malformed"),
    # The header.
    ("crit", token(crit=["exp"]), "token_malformed"),
    ("an empty crit", token(crit=[]), "token_malformed"),
    ("b64 false", token(b64=False), "token_malformed"),
    ("b64 0", token(b64=0), "token_malformed"),
    ("kid is a number", token(kid=1), "token_malformed"),
    ("kid is a list", token(kid=["a"]), "token_malformed"),
    ("a logout token", token(typ="logout+jwt"), "token_type"),
    ("typ is no string", token(typ=1), "token_type"),
    # The signature.
    ("another secret", token(key=SECRET[::-1]), "token_signature"),
    ("no signature", HEADER + b"." + PAYLOAD + b".", "token_signature"),
    ("a short signature", HEADER + b"." + PAYLOAD + b"." + part(b"x" * 31), "token_signature"),
    ("a cut signature", GOOD[:-4], "token_malformed"),
    ("another header", part({"alg": "HS256"}) + b"." + PAYLOAD + b"." + SIGNATURE,
     "token_signature"),
    ("another payload", HEADER + b"." + part(claims(role="admin")) + b"." + SIGNATURE,
     "token_signature"),
    ("a payload that is no JSON", HEADER + b"." + part("{") + b"." + SIGNATURE,
     "token_signature"),
    ("header and payload exchanged", PAYLOAD + b"." + HEADER + b"." + SIGNATURE,
     "token_algorithm"),
    ("the secret in its header", token(key="x" * 32, jwk={"kty": "oct", "k": "eHh4"}),
     "token_signature"),
    # Times.
    ("expired", says(exp=NOW - LEEWAY), "token_expired"),
    ("expired within the leeway", says(exp=NOW - LEEWAY + 1), ""),
    ("expired before 1970", says(exp=-1), "token_expired"),
    ("expired before 1970 by far", raw('{"user_id":"u","exp":-1' + "0" * 400 + "}"),
     "token_expired"),
    ("exp with a fraction", says(exp=EXP + 0.5), ""),
    *((f"exp {json.dumps(value)}", says(exp=value), "token_claims")
      for value in (None, True, str(EXP), "", [EXP], {}, EXP * 1000, 10**400)),
    ("exp in exponents", raw('{"user_id":"u","exp":1e999}'), "token_claims"),
    ("exp in negative exponents", raw('{"user_id":"u","exp":-1e999}'), "token_claims"),
    *((f"exp {name}", raw(f'{{"user_id":"u","exp":{name}}}'), "token_malformed")
      for name in ("NaN", "Infinity", "-Infinity")),
    ("no exp", says(exp=...), "token_claims"),
    ("no iat", says(iat=...), ""),
    ("iat in the future", says(iat=NOW + LEEWAY + 1), "token_not_yet_valid"),
    ("iat within the leeway", says(iat=NOW + LEEWAY), ""),
    ("iat is a string", says(iat=str(NOW)), "token_claims"),
    ("iat is null", says(iat=None), "token_claims"),
    ("nbf in the future", says(nbf=NOW + LEEWAY + 1), "token_not_yet_valid"),
    ("nbf in the past", says(nbf=NOW - 1), ""),
    ("nbf is true", says(nbf=True), "token_claims"),
    # The kind.
    ("a refresh token of the platform", says(type="refresh"), "token_type"),
    ("a refresh token, otherwise", says(token_type="refresh"), "token_type"),
    ("a refresh token of Keycloak", says(typ="Refresh"), "token_type"),
    ("an ID token of Keycloak", says(typ="ID"), "token_type"),
    ("a type that is empty", says(type=""), "token_type"),
    ("a type that is null", says(type=None), "token_type"),
    ("a type that is a list", says(type=["access"]), "token_type"),
    ("two types", says(type="access", token_type="refresh"), "token_type"),
    ("an access token", says(type="access"), ""),
    ("an access token of Keycloak", says(typ="Bearer"), ""),
    # The user.
    ("a subject and no user_id", says(user_id=..., sub="u-1"), ""),
    ("a user that is a number", says(user_id=42), ""),
    ("no user", says(user_id=...), "token_claims"),
    *((f"user {json.dumps(value)[:20]}", says(user_id=value), "token_claims")
      for value in ("", " ", "u ", " u", "u\r\nX-Admin: 1", "u\n", "u\t1", "u\0", "ü", "\u202e",
                    "\ud800", "x" * 257, None, True, 1.5, ["u"], {"u": 1}, 10**300)),
    ("a user_id that is empty, and a subject", says(user_id="", sub="u-1"), "token_claims"),
    ("a user_id that is null, and a subject", says(user_id=None, sub="u-1"), "token_claims"),
    ("a subject that is a list", says(user_id=..., sub=["u"]), "token_claims"),
    ("a user of 256 characters", says(user_id="x" * 256), ""),
    ("a user with a space", says(user_id="u 1"), ""),
    # Roles and scopes.
    ("no role", says(role=...), ""),
    ("an empty role", says(role=""), ""),
    ("a role that is a list", says(role=["admin"]), "token_claims"),
    ("a role that is a number", says(role=1), "token_claims"),
    ("a role with a line break", says(role="a\r\nb"), "token_claims"),
    ("roles that are a string", says(roles="admin"), "token_claims"),
    ("roles with a number in them", says(roles=["a", 1]), "token_claims"),
    ("roles that are an object", says(roles={"admin": 1}), "token_claims"),
    ("roles that are null", says(roles=None), ""),
    ("a scope that is a number", says(scope=1), "token_claims"),
    ("scp with an empty one in it", says(scp=[""]), "token_claims"),
    ("scopes with a list in it", says(scopes=[["a"]]), "token_claims"),
    # Issuer and audience, which nobody asked for here.
    ("any issuer", says(iss="anybody"), ""),
    ("any audience", says(aud="somebody"), ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"), [pytest.param(*row[1:], id=row[0]) for row in BY_SECRET]
)
def test_a_token_by_secret_is_accepted_or_refused_for_this_reason(text: bytes, reason: str) -> None:
    verifier = TokenVerifier(SECRET, ("HS256",))
    assert refusal(verifier, text) == reason
    assert refusal(verifier, text) == reason  # and no other the second time


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "token_issuer"),
        ({"iss": "https://issuer.test/"}, "token_issuer"),
        ({"iss": None}, "token_issuer"),
        ({"iss": [ISSUER]}, "token_issuer"),
        ({"iss": ISSUER}, "token_audience"),
        ({"iss": ISSUER, "aud": "sigerx"}, "token_audience"),
        ({"iss": ISSUER, "aud": None}, "token_audience"),
        ({"iss": ISSUER, "aud": []}, "token_audience"),
        ({"iss": ISSUER, "aud": {AUDIENCE: 1}}, "token_audience"),
        ({"iss": ISSUER, "aud": [[AUDIENCE]]}, "token_audience"),
        ({"iss": ISSUER, "aud": [AUDIENCE, 1]}, "token_audience"),
        ({"iss": ISSUER, "aud": AUDIENCE}, ""),
        ({"iss": ISSUER, "aud": ["other", AUDIENCE]}, ""),
    ],
    ids=str,
)
def test_issuer_and_audience_have_to_be_those_configured(
    changed: dict[str, Any], reason: str
) -> None:
    verifier = TokenVerifier(SECRET, ("HS256",), ISSUER, AUDIENCE)
    assert refusal(verifier, says(**changed)) == reason


def test_who_the_token_speaks_for() -> None:
    text = says(user_id=42, role="a", roles=["b", "c d"], scope="r w", scp=["x"], scopes="y  z")
    identity = TokenVerifier(SECRET, ("HS256",), leeway=5).verify(text, NOW)
    assert (identity.user, identity.means) == ("42", "jwt")
    assert identity.roles == {"a", "b", "c d"}
    assert identity.scopes == {"r", "w", "x", "y", "z"}
    assert identity.expires == EXP + 5


@pytest.fixture(scope="module")
def keys() -> KeySet:
    return asyncio.run(
        key_set_of(
            jwk(RSA, "rsa"),
            jwk(OTHER_RSA, "rs256-only", alg="RS256", use="sig"),
            jwk(P256, "p256"),
            jwk(P384, "p384"),
            jwk(P521, "p521"),
            jwk(ED25519, "ed"),
        )
    )


def by(key: Any, alg: str, kid: str | None, **header: Any) -> bytes:
    return token(CLAIMS, key, alg, **({} if kid is None else {"kid": kid}), **header)


def with_signature(text: bytes, signature: bytes) -> bytes:
    return text.rpartition(b".")[0] + b"." + part(signature)


def signature_of(text: bytes) -> bytes:
    return urlsafe_b64decode(text.rpartition(b".")[2] + b"==")


ES256 = by(P256, "ES256", "p256")
DER = P256.sign(ES256.rpartition(b".")[0], ECDSA(SHA256()))
MINE = jwk(OTHER_RSA, "mine")

BY_KEYS: list[tuple[str, bytes, str]] = [
    *((alg, by(RSA, alg, "rsa"), "") for alg in ALL_KEYS[:6]),
    ("ES256", ES256, ""),
    ("ES384", by(P384, "ES384", "p384"), ""),
    ("ES512", by(P521, "ES512", "p521"), ""),
    ("EdDSA", by(ED25519, "EdDSA", "ed"), ""),
    # The confusion of algorithms: the public key taken for a secret.
    *((f"{alg} by the public key", token(CLAIMS, PEM.decode(), alg, kid="rsa"), "token_algorithm")
      for alg in ("HS256", "HS384", "HS512")),
    ("alg none", part({"alg": "none", "kid": "rsa"}) + b"." + PAYLOAD + b".", "token_algorithm"),
    ("an alg that the key is not for", by(OTHER_RSA, "PS256", "rs256-only"), "token_algorithm"),
    ("PS256 that says RS256", seal(part({"alg": "RS256", "kid": "rsa"}), PAYLOAD, RSA, "PS256"),
     "token_signature"),
    ("RS256 that says PS256", seal(part({"alg": "PS256", "kid": "rsa"}), PAYLOAD, RSA, "RS256"),
     "token_signature"),
    ("RS256 that says RS512", seal(part({"alg": "RS512", "kid": "rsa"}), PAYLOAD, RSA, "RS256"),
     "token_signature"),
    ("ES256 by the key of ES384", by(P384, "ES256", "p384"), "token_algorithm"),
    ("ES256 that names the key of ES384", by(P256, "ES256", "p384"), "token_algorithm"),
    ("ES256 by another key of its name", by(P384, "ES256", "p256"), "token_signature"),
    ("ES256 that names the RSA key", by(P256, "ES256", "rsa"), "token_algorithm"),
    ("EdDSA that names the RSA key", by(ED25519, "EdDSA", "rsa"), "token_algorithm"),
    # Names of keys.
    ("the name of another key", by(RSA, "RS256", "rs256-only"), "token_signature"),
    ("a name that is not known", by(RSA, "RS256", "new"), "token_key_unknown"),
    ("a name with a path", by(RSA, "RS256", "../../dev/null"), "token_key_unknown"),
    ("an empty name", by(RSA, "RS256", ""), "token_key_unknown"),
    ("a name that is no string", token(CLAIMS, RSA, "RS256", kid=["rsa"]), "token_malformed"),
    ("no name, two keys would fit", by(RSA, "RS256", None), "token_key_unknown"),
    ("no name, one key fits", by(P256, "ES256", None), ""),
    ("no name, and not by the key that fits", by(P384, "ES256", None), "token_signature"),
    ("no name, one key is for this algorithm", by(RSA, "PS256", None), ""),
    # Keys that the token brings along.
    ("its own jwk", by(OTHER_RSA, "RS256", "rsa", jwk=MINE), "token_signature"),
    ("its own jwk and name", by(OTHER_RSA, "RS256", "mine", jwk=MINE), "token_key_unknown"),
    ("its own jku", by(OTHER_RSA, "RS256", "rsa", jku="https://mine.test"), "token_signature"),
    ("its own x5u", by(OTHER_RSA, "RS256", "rsa", x5u="https://mine.test"), "token_signature"),
    ("its own x5c", by(OTHER_RSA, "RS256", "rsa", x5c=["MIIB"]), "token_signature"),
    ("a jwk that is not used", by(RSA, "RS256", "rsa", jwk=MINE), ""),
    # Signatures.
    ("ES256: too short", with_signature(ES256, signature_of(ES256)[:-1]), "token_signature"),
    ("ES256: too long", with_signature(ES256, signature_of(ES256) + b"\0"), "token_signature"),
    ("ES256: zeros (CVE-2022-21449)", with_signature(ES256, bytes(64)), "token_signature"),
    ("ES256: ones", with_signature(ES256, b"\xff" * 64), "token_signature"),
    ("ES256: as DER", with_signature(ES256, DER), "token_signature"),
    ("ES256: none", with_signature(ES256, b""), "token_signature"),
    ("EdDSA: too short", with_signature(by(ED25519, "EdDSA", "ed"), b"x" * 63), "token_signature"),
    ("RS256: none", with_signature(by(RSA, "RS256", "rsa"), b""), "token_signature"),
    ("RS256: zeros", with_signature(by(RSA, "RS256", "rsa"), bytes(256)), "token_signature"),
    ("RS256: too long", with_signature(by(RSA, "RS256", "rsa"), bytes(512)), "token_signature"),
    ("expired", token(claims(exp=1), RSA, "RS256", kid="rsa"), "token_expired"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), [pytest.param(*row[1:], id=row[0]) for row in BY_KEYS])
def test_a_token_by_keys_is_accepted_or_refused_for_this_reason(
    keys: KeySet, text: bytes, reason: str
) -> None:
    # HS256 cannot be pinned beside these: the confusion of algorithms needs both.
    verifier = TokenVerifier(keys, ALL_KEYS)
    assert refusal(verifier, text) == reason


def test_only_algorithms_that_are_pinned_are_accepted(keys: KeySet) -> None:
    verifier = TokenVerifier(keys, ("ES256",))
    assert refusal(verifier, ES256) == ""
    assert refusal(verifier, by(RSA, "RS256", "rsa")) == "token_algorithm"


def test_a_key_that_is_missing_is_named(keys: KeySet) -> None:
    with pytest.raises(KeyMissing) as caught:
        TokenVerifier(keys, ("RS256",)).verify(by(RSA, "RS256", "new"), NOW)
    assert caught.value.kid == "new"


# What is remembered.


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What signatures were checked of: the signed parts."""
    seen: list[bytes] = []
    for kind in (HMACAlgorithm, RSAAlgorithm):

        def verify(
            self: Any, message: bytes, key: Any, signature: bytes, real: Any = kind.verify
        ) -> bool:
            seen.append(message)
            return bool(real(self, message, key, signature))

        monkeypatch.setattr(kind, "verify", verify)
    return seen


@pytest.mark.parametrize("text", [GOOD, padded(WHOLE + 1)], ids=["short", "long"])
def test_a_token_that_comes_again_is_not_checked_again(text: bytes, checks: list[bytes]) -> None:
    verifier = TokenVerifier(SECRET, ("HS256",))
    first = verifier.verify(text, NOW)
    assert verifier.verify(bytes(bytearray(text)), NOW + 1) is first
    assert len(checks) == 1


def test_a_digest_does_not_stand_for_the_token() -> None:
    verifier = TokenVerifier(SECRET, ("HS256",))
    text = padded(WHOLE + 1)
    verifier.verify(text, NOW)
    for digest in (sha256(text).digest(), sha256(text).hexdigest().encode()):
        assert refusal(verifier, digest) == "token_malformed"


def test_a_token_expires_while_it_is_remembered(checks: list[bytes]) -> None:
    verifier = TokenVerifier(SECRET, ("HS256",))
    assert refusal(verifier, GOOD, EXP + LEEWAY - 0.1) == ""
    assert refusal(verifier, GOOD, EXP + LEEWAY) == "token_expired"
    assert len(checks) == 1


def test_bad_tokens_are_not_remembered() -> None:
    verifier = TokenVerifier(SECRET, ("HS256",))
    for _, text, reason in BY_SECRET:
        if reason:
            assert refusal(verifier, text) == reason
    assert repr(verifier) == "<TokenVerifier HS256 remembered=0>"


def test_no_more_tokens_are_remembered_than_may_be() -> None:
    verifier = TokenVerifier(SECRET, ("HS256",), capacity=20)
    for number in range(100):
        verifier.verify(says(user_id=number), NOW)
        assert len(verifier._young) + len(verifier._old) <= 20


def test_tokens_with_many_roles_are_remembered_in_smaller_numbers() -> None:
    verifier = TokenVerifier(SECRET, ("HS256",), capacity=20)
    for number in range(10):
        verifier.verify(says(user_id=number, roles=[f"role{one}" for one in range(80)]), NOW)
        assert len(verifier._young) + len(verifier._old) <= 2


def test_a_token_in_use_stays_however_many_others_come(checks: list[bytes]) -> None:
    verifier = TokenVerifier(SECRET, ("HS256",), capacity=20)
    for number in range(100):
        verifier.verify(GOOD, NOW)
        verifier.verify(says(user_id=number), NOW)
    assert len(checks) == 101


# Random ones.


@given(st.binary(max_size=400))
def test_bytes_are_refused(data: bytes) -> None:
    assert refusal(TokenVerifier(SECRET, ("HS256",)), data)


@given(st.lists(st.binary(max_size=60), min_size=3, max_size=3))
def test_parts_of_bytes_are_refused(data: list[bytes]) -> None:
    assert refusal(TokenVerifier(SECRET, ("HS256",)), b".".join(map(part, data)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = ["alg", "typ", "kid", "crit", "b64", "jwk", "cty", "zip"]
CLAIM_NAMES = [
    "exp",
    "nbf",
    "iat",
    "iss",
    "aud",
    "sub",
    "user_id",
    "role",
    "roles",
    "scope",
    "type",
]


@given(st.dictionaries(st.sampled_from(NAMES), JSON), JSON)
def test_whatever_stands_in_a_header_has_a_reason(header: dict[str, Any], payload: Any) -> None:
    text = seal(part({"alg": "HS256", **header}), part(json.dumps(payload)))
    with contextlib.suppress(GatewayError):
        TokenVerifier(SECRET, ("HS256",)).verify(text, NOW)


@given(st.dictionaries(st.sampled_from(CLAIM_NAMES), JSON))
def test_whatever_is_claimed_a_user_is_safe_as_a_field_value(changed: dict[str, Any]) -> None:
    with contextlib.suppress(GatewayError):
        identity = TokenVerifier(SECRET, ("HS256",)).verify(token({**CLAIMS, **changed}), NOW)
        for name in (identity.user, *identity.roles, *identity.scopes):
            assert name.isascii()
            assert name.isprintable()
            assert name == name.strip() != ""
        assert NOW < identity.expires < float("inf")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.sampled_from(["set", "add", "cut"]))
def test_a_good_token_that_was_changed_is_refused(at: int, byte: int, how: str) -> None:
    end = {"set": at + 1, "add": at, "cut": at + 1 + byte}[how]
    changed = GOOD[:at] + (b"" if how == "cut" else bytes([byte])) + GOOD[end:]
    if changed != GOOD:
        assert refusal(TokenVerifier(SECRET, ("HS256",)), changed)


@given(st.integers(0, len(ES256) - 1), st.integers(0, 255))
def test_a_good_token_by_a_key_that_was_changed_is_refused(
    keys: KeySet, at: int, byte: int
) -> None:
    changed = ES256[:at] + bytes([byte]) + ES256[at + 1 :]
    if changed != ES256:
        assert refusal(TokenVerifier(keys, ALL_KEYS), changed)


# What cannot be configured.


@pytest.mark.parametrize(
    ("source", "algorithms", "said"),
    [
        ("secret", (), "no algorithm"),
        ("secret", ("none",), '"none" is not an algorithm'),
        ("secret", ("HS256", "none"), '"none" is not an algorithm'),
        ("secret", ("hs256",), '"hs256" is not an algorithm'),
        ("secret", ("RS256",), "RS256 needs public keys"),
        ("secret", ("HS256", "ES256"), "ES256 needs public keys"),
        ("keys", ("HS256",), "HS256 needs a secret"),
        ("keys", ("RS256", "HS256"), "HS256 needs a secret"),
        ("keys", ("none",), '"none" is not an algorithm'),
        ("keys", ("ES256K",), '"ES256K" is not an algorithm'),
        ("keys", ("RS256", "EdDSA"), ""),
        ("secret", ("HS256", "HS384", "HS512"), ""),
    ],
)
def test_algorithms_have_to_fit_what_they_are_used_with(
    keys: KeySet, source: Literal["secret", "keys"], algorithms: tuple[str, ...], said: str
) -> None:
    assert (said in misfit(algorithms, source)) if said else not misfit(algorithms, source)
    with pytest.raises(ValueError, match=said) if said else contextlib.nullcontext():
        TokenVerifier(SECRET if source == "secret" else keys, algorithms)


@pytest.mark.parametrize("secret", ["", PEM.decode(), json.dumps(jwk(RSA, "a"))])
def test_a_secret_is_neither_empty_nor_a_public_key(secret: str) -> None:
    with pytest.raises(ValueError, match=r"HMAC|asymmetric"):
        TokenVerifier(secret, ("HS256",))


@pytest.mark.parametrize(
    ("secret", "algorithms", "said"),
    [
        ("", ("HS256",), "empty"),
        ("secret", ("HS256",), "placeholder"),
        ("SECRET", ("HS256",), "placeholder"),
        ("ChangeMe", ("HS256",), "placeholder"),
        ("your-256-bit-secret", ("HS256",), "placeholder"),
        ("secretsecretsecretsecretsecretsecret", ("HS256",), "placeholder"),
        ("your-super-secret-jwt-key-change-in-production", ("HS256",), "placeholder"),
        ("replace_with_a_strong_random_secret_of_32_chars", ("HS256",), "placeholder"),
        (SECRET[:31], ("HS256",), "31 bytes long; HS256 needs 32"),
        (SECRET[:32], ("HS256",), ""),
        (SECRET[:32], ("HS256", "HS384"), "HS384 needs 48"),
        (SECRET[:63], ("HS512",), "63 bytes long; HS512 needs 64"),
        (SECRET, ("HS256", "HS384", "HS512"), ""),
        ("é" * 16 + SECRET[:1], ("HS256",), ""),
        ("x" * 64, ("HS256",), "repeats one character"),
        ("-" * 64, ("HS256",), "repeats one character"),
        ("Xq7" * 30, ("HS256",), "repeats 3 characters"),
        (SECRET[:16] * 2, ("HS256",), "repeats 16 characters"),
        ("\udcff" * 3, ("HS256",), "3 bytes long"),
    ],
)
def test_a_secret_that_can_be_guessed_is_told_apart(
    secret: str, algorithms: tuple[str, ...], said: str
) -> None:
    found = weak_secret(secret, algorithms)
    assert (said in found) if said else not found


@given(st.binary(min_size=32, max_size=32))
def test_the_hex_digits_of_random_bytes_are_no_placeholder(data: bytes) -> None:
    assert "placeholder" not in weak_secret(data.hex(), ("HS256",))


WITHOUT_CRYPTOGRAPHY = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "cryptography":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
from siger_gateway.filters.key_set import KeySet
from siger_gateway.filters.tokens import TokenVerifier, mint

secret = "kq3Vv0m1c7Zt9xW5bN2yR8sD4fG6hJ0lPoIuYtReWqAzSxDcFvGbHnJmK1L2o3P4"
for algorithm in ("HS256", "HS384", "HS512"):
    text = mint("u", "", secret, algorithm, 60, "", "", 1000)
    assert TokenVerifier(secret, (algorithm,)).verify(text.encode(), 1000).user == "u"
try:
    TokenVerifier(KeySet("test", None), ("RS256",))
except ValueError as error:
    print(error)
"""


def test_secrets_need_no_cryptography_and_keys_say_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CRYPTOGRAPHY], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert 'install "siger-gateway[jwks]"' in done.stdout


# Tokens that we make.


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_what_is_minted_is_accepted(algorithm: str) -> None:
    text = mint("u-1", "admin", SECRET, algorithm, 60, ISSUER, AUDIENCE, NOW).encode()
    identity = TokenVerifier(SECRET, (algorithm,), ISSUER, AUDIENCE).verify(text, NOW)
    assert (identity.user, identity.roles) == ("u-1", {"admin"})
    assert identity.expires == EXP + LEEWAY


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user": ""}, "cannot be used"),
        ({"user": "a\nb"}, "cannot be used"),
        ({"role": "ü"}, "cannot be used"),
        ({"secret": ""}, "empty"),
        ({"algorithm": "RS256"}, "needs public keys"),
        ({"algorithm": "none"}, "not an algorithm"),
        ({"lifetime": 0}, "lifetime"),
    ],
)
def test_nothing_is_minted_that_would_be_refused(changed: dict[str, Any], said: str) -> None:
    good = {"user": "u", "role": "", "secret": SECRET, "algorithm": "HS256", "lifetime": 60}
    with pytest.raises(ValueError, match=said):
        mint(**{**good, "issuer": "", "audience": "", "now": NOW, **changed})
