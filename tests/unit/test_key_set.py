"""The keys of an issuer: which are taken, when they are fetched, and what tokens they bear out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from siger_gateway.errors import GatewayError
from siger_gateway.filters import key_set as module
from siger_gateway.filters.jwks import MOST_BYTES, MOST_KEYS, parse_keys
from siger_gateway.filters.key_set import (
    FIRST_RETRY,
    LAST_RETRY,
    MIN_INTERVAL,
    REFRESH,
    KeySet,
    pause,
)
from siger_gateway.filters.tokens import TokenVerifier
from tests.tokens import (
    CLAIMS,
    ED25519,
    K256,
    NOW,
    OTHER_RSA,
    P256,
    P384,
    RSA,
    SHORT_RSA,
    document,
    jwk,
    token,
)


class Issuer:
    """An issuer, and a key set whose time stands still unless it is moved.

    :param answers: what the next fetches bring, or raise; the last one stays.
    """

    def __init__(self, *answers: bytes | BaseException) -> None:
        self.answers = list(answers)
        self.fetches = 0
        self.now = 0.0
        self.pauses: list[float] = []
        self.held = False
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self.paused = asyncio.Event()
        self._due = asyncio.Event()
        self.keys = KeySet(
            "issuer",
            self.fetch,
            clock=lambda: self.now,
            pause=self.pause,
            jitter=lambda: 0.0,
            sleep=self.sleep,
        )

    async def fetch(self) -> bytes:
        self.fetches += 1
        if self.held:
            self.asked.set()
            await self.let_go.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def pause(self, wanted: asyncio.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self._due = wanted
        self.paused.set()
        await wanted.wait()
        self.paused.clear()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def after_fetch(self, *answers: bytes | BaseException) -> None:
        """Goes on to the next fetch in turn, which brings the first of these."""
        self.answers = list(answers) or self.answers
        await self.paused.wait()
        self.paused.clear()
        self._due.set()
        await self.paused.wait()

    async def start(self) -> None:
        self.keys.start()
        await self.paused.wait()


@contextlib.asynccontextmanager
async def started(*answers: bytes | BaseException) -> AsyncIterator[Issuer]:
    issuer = Issuer(*answers)
    await issuer.start()
    yield issuer
    await issuer.keys.close()


OLD, NEW = jwk(RSA, "old"), jwk(OTHER_RSA, "new")
BY_OLD = token(CLAIMS, RSA, "RS256", kid="old")
BY_NEW = token(CLAIMS, OTHER_RSA, "RS256", kid="new")


def refusal(verifier: TokenVerifier, text: bytes) -> str:
    try:
        verifier.verify(text, NOW)
    except GatewayError as error:
        return error.reason
    return ""


async def test_tokens_are_verified_until_their_key_leaves_and_no_longer() -> None:
    async with started(document(OLD)) as issuer:
        verifier = TokenVerifier(issuer.keys, ("RS256",))
        assert refusal(verifier, BY_OLD) == ""
        await issuer.after_fetch(document(OLD, NEW))
        assert refusal(verifier, BY_OLD) == refusal(verifier, BY_NEW) == ""
        await issuer.after_fetch(document(NEW))
        assert refusal(verifier, BY_OLD) == "token_key_unknown"  # though it was remembered
        assert refusal(verifier, BY_NEW) == ""


async def test_a_key_that_is_replaced_under_its_name_has_left() -> None:
    async with started(document(OLD)) as issuer:
        verifier = TokenVerifier(issuer.keys, ("RS256",))
        assert refusal(verifier, BY_OLD) == ""
        await issuer.after_fetch(document({**NEW, "kid": "old"}))
        assert refusal(verifier, BY_OLD) == "token_signature"


async def test_what_is_remembered_stays_when_no_key_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    async with started(document(OLD)) as issuer:
        verifier = TokenVerifier(issuer.keys, ("RS256",))
        first = verifier.verify(BY_OLD, NOW)
        await issuer.after_fetch(document({**OLD, "x5t": "other"}, NEW))
        monkeypatch.setattr(RSAAlgorithm, "verify", lambda *_: pytest.fail("checked again"))
        assert verifier.verify(BY_OLD, NOW) is first


async def test_a_new_key_is_fetched_when_a_token_names_it() -> None:
    async with started(document(OLD), document(OLD, NEW)) as issuer:
        verifier = TokenVerifier(issuer.keys, ("RS256",))
        assert refusal(verifier, BY_NEW) == "token_key_unknown"
        issuer.now += MIN_INTERVAL
        await issuer.keys.refreshed("new")
        assert refusal(verifier, BY_NEW) == ""
        assert issuer.fetches == 2


async def test_all_who_ask_for_new_keys_wait_for_one_fetch() -> None:
    async with started(document(OLD), document(OLD, NEW)) as issuer:
        issuer.now += MIN_INTERVAL
        issuer.held = True
        asking = [asyncio.create_task(issuer.keys.refreshed(f"kid{n}")) for n in range(100)]
        asking.append(asyncio.create_task(issuer.keys.refreshed("new")))
        await issuer.asked.wait()
        assert not any(task.done() for task in asking)
        issuer.let_go.set()
        await asyncio.gather(*asking)
        assert issuer.fetches == 2
        assert issuer.keys.find("new", "RS256")


async def test_a_flood_of_unknown_names_causes_one_fetch_in_an_interval() -> None:
    async with started(document(OLD)) as issuer:
        for number in range(100):
            many = [issuer.keys.refreshed(f"kid{number}-{other}") for other in range(10)]
            await asyncio.gather(*many)
            await issuer.paused.wait()
        assert issuer.fetches == 101
        assert issuer.now == pytest.approx(100 * MIN_INTERVAL)


async def test_a_new_key_is_found_also_when_somebody_has_just_asked_for_another() -> None:
    async with started(document(OLD), document(OLD), document(OLD, NEW)) as issuer:
        await issuer.keys.refreshed("made up")
        await issuer.keys.refreshed("new")
        assert issuer.keys.find("new", "RS256")


async def test_a_name_that_is_known_causes_no_fetch() -> None:
    async with started(document(OLD)) as issuer:
        issuer.now += MIN_INTERVAL
        await issuer.keys.refreshed("old")
        await issuer.keys.refreshed(None)
        assert issuer.fetches == 1


async def test_keys_that_are_being_fetched_for_the_first_time_are_waited_for() -> None:
    issuer = Issuer(document(OLD))
    issuer.held = True
    issuer.keys.start()
    verifier = TokenVerifier(issuer.keys, ("RS256",))
    assert not issuer.keys.ready
    assert refusal(verifier, BY_OLD) == "auth_unavailable"
    waiting = asyncio.create_task(issuer.keys.refreshed("old"))
    await issuer.asked.wait()
    issuer.let_go.set()
    await waiting
    assert issuer.keys.ready
    assert refusal(verifier, BY_OLD) == ""
    await issuer.keys.close()


async def test_nobody_waits_longer_than_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_TIMEOUT", 0.001)
    issuer = Issuer(document(OLD))
    issuer.held = True
    issuer.keys.start()
    await issuer.keys.refreshed("old")
    assert repr(issuer.keys) == "<KeySet issuer keys=0>"  # and the fetch goes on
    assert refusal(TokenVerifier(issuer.keys, ("RS256",)), BY_OLD) == "auth_unavailable"
    await issuer.keys.close()


async def test_a_fetch_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT", 0.001)
    issuer = Issuer(document(OLD))
    issuer.held = True
    await issuer.start()
    assert repr(issuer.keys) == "<KeySet issuer keys=0 failures=1>"
    issuer.held = False
    await issuer.after_fetch()
    assert repr(issuer.keys) == "<KeySet issuer keys=1>"
    await issuer.keys.close()


BROKEN: list[bytes | BaseException] = [
    OSError("refused"),
    TimeoutError(),
    RuntimeError("nobody foresaw this"),
    GatewayError("connect_failed"),
    b"",
    b"<html>",
    b"[]",
    b"{}",
    b'{"keys": {}}',
    b'{"keys": []}',
    b'{"keys": [1]}',
    b"\xff",
    b"[" * 100_000,
    document({**OLD, "x5c": ["A" * MOST_BYTES]}),
    document(*[OLD] * (MOST_KEYS + 1)),
    document(jwk(SHORT_RSA, "old")),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: repr(broken)[:30])
async def test_the_last_keys_stay_when_no_new_ones_come(broken: bytes | BaseException) -> None:
    async with started(document(OLD)) as issuer:
        verifier = TokenVerifier(issuer.keys, ("RS256",))
        await issuer.after_fetch(broken)
        assert refusal(verifier, BY_OLD) == ""
        assert refusal(verifier, BY_NEW) == "auth_unavailable"  # it may be a new key
        await issuer.after_fetch(document(OLD))
        assert refusal(verifier, BY_NEW) == "token_key_unknown"


async def test_pauses_grow_while_fetching_fails_and_are_the_usual_ones_again() -> None:
    async with started(OSError("refused")) as issuer:
        for _ in range(5):
            await issuer.after_fetch()
        await issuer.after_fetch(document(OLD))
        growing = [FIRST_RETRY * 2**n for n in range(4)]
        assert issuer.pauses == [*growing, LAST_RETRY, LAST_RETRY, REFRESH]


async def test_an_outage_is_logged_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "siger_gateway.filters.key_set")
    async with started(document(OLD)) as issuer:
        caplog.clear()
        for _ in range(3):
            await issuer.after_fetch(OSError("refused"))
        await issuer.after_fetch(document(OLD))
        said = ["keys cannot be fetched; those that are known stay", "keys are fetched again"]
        assert [record.message for record in caplog.records] == said


async def test_a_key_that_cannot_be_used_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with started(document(OLD, jwk(SHORT_RSA, "short"))) as issuer:
        await issuer.after_fetch()
        fields = [record.__dict__["fields"] for record in caplog.records]
        assert [(one["kid"], one["why"]) for one in fields] == [
            ("short", "it has 1024 bits; RSA needs 2048")
        ]


async def test_a_key_set_that_is_closed_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "WAIT_TIMEOUT", None)
    issuer = Issuer(document(OLD))
    issuer.held = True
    issuer.keys.start()
    waiting = asyncio.create_task(issuer.keys.refreshed("old"))
    await issuer.asked.wait()
    await issuer.keys.close()
    async with asyncio.timeout(1):
        await waiting
    await issuer.keys.close()
    await issuer.keys.refreshed("old")
    assert issuer.fetches == 1


async def test_a_request_that_is_cancelled_does_not_stop_the_fetch_for_others() -> None:
    issuer = Issuer(document(OLD))
    issuer.held = True
    issuer.keys.start()
    gone, waiting = (asyncio.create_task(issuer.keys.refreshed("old")) for _ in range(2))
    await issuer.asked.wait()
    gone.cancel()
    await asyncio.wait([gone])
    issuer.let_go.set()
    await waiting
    assert issuer.keys.ready
    await issuer.keys.close()


async def test_a_pause_ends_with_its_time_or_when_keys_are_wanted() -> None:
    wanted = asyncio.Event()
    await pause(wanted, 0.001)
    wanted.set()
    await pause(wanted, 1e6)


# Which keys are taken.

ED448 = OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)
PRIVATE = RSAAlgorithm.to_jwk(RSA, as_dict=True)
TINY_EXPONENT = {**OLD, "e": urlsafe_b64encode(b"\1").decode()}
RSA_ALGORITHMS = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (jwk(RSA, "k"), RSA_ALGORITHMS),
        (jwk(RSA, None), RSA_ALGORITHMS),
        (jwk(RSA, "k", alg="PS256", use="sig", key_ops=["verify"]), {"PS256"}),
        (jwk(P256, "k"), {"ES256"}),
        (jwk(P384, "k", alg="ES384"), {"ES384"}),
        (jwk(ED25519, "k", alg="EdDSA"), {"EdDSA"}),
    ],
)
def test_a_key_is_for_the_algorithms_of_its_kind(key: object, algorithms: set[str]) -> None:
    found, skipped = parse_keys(document(key))
    assert [one.algorithms for one in found] == [algorithms]
    assert not skipped


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (jwk(RSA, "k", use="enc"), "not for signatures"),
        (jwk(RSA, "k", use=None), "not for signatures"),
        (jwk(RSA, "k", key_ops=["encrypt"]), "not for checking"),
        (jwk(RSA, "k", key_ops="verify"), "not for checking"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, "shared secret"),
        ({"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "RS256"}, "shared secret"),
        ({**PRIVATE, "key_ops": ["sign", "verify"]}, "private key"),
        (jwk(SHORT_RSA, "k"), "1024 bits"),
        (TINY_EXPONENT, "e must be"),
        (jwk(K256, "k"), "kind is not known"),
        (ED448, "kind is not known"),
        ({"kty": "EC", "crv": ["P-256"]}, "kind is not known"),
        ({"kty": ["RSA"]}, "kind is not known"),
        ({"kty": "AKP", "alg": "ML-DSA-44"}, "kind is not known"),
        ({}, "kind is not known"),
        (jwk(P256, "k", alg="ES384"), "alg does not fit"),
        (jwk(P256, "k", alg="HS256"), "alg does not fit"),
        (jwk(RSA, "k", alg="ES256"), "alg does not fit"),
        (jwk(RSA, "k", alg="RSA-OAEP"), "alg does not fit"),
        (jwk(RSA, "k", alg="none"), "alg does not fit"),
        (jwk(RSA, "k", alg=["RS256"]), "alg does not fit"),
        (jwk(RSA, "k", alg=None), "alg does not fit"),
        ({**jwk(RSA, None), "kid": 1}, "kid is not a string"),
        ({**jwk(P256, "k"), "crv": "P-384"}, "48 bytes"),
        ({**jwk(P256, "k"), "x": "A" * 43}, "not on the curve"),
        ({**jwk(RSA, "k"), "n": 5}, "Expected a string"),
        ({**jwk(ED25519, "k"), "x": "AAAA"}, "Invalid key"),
        ("k", "not an object"),
        (None, "not an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_must_not_be_used_is_left_out_and_the_others_serve(
    key: object, why: str
) -> None:
    found, skipped = parse_keys(document(key, jwk(OTHER_RSA, "good")))
    assert [one.kid for one in found] == ["good"]
    assert why in skipped[0][1]


def test_of_two_keys_with_one_name_only_the_first_is_taken() -> None:
    found, skipped = parse_keys(document(jwk(RSA, "k"), jwk(OTHER_RSA, "k"), jwk(P256, "k")))
    assert [len(one.algorithms) for one in found] == [6, 1]
    assert skipped == (("k", "another key of this kind has the same kid"),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
MEMBERS = st.sampled_from(["kty", "crv", "kid", "alg", "use", "key_ops", "n", "e", "x", "y", "d"])


@given(st.sampled_from([OLD, jwk(P256, "k"), jwk(ED25519, "k")]), st.dictionaries(MEMBERS, JSON))
def test_whatever_a_key_holds_it_is_taken_or_left_out(
    good: dict[str, Any], changed: dict[str, Any]
) -> None:
    found, skipped = parse_keys(json.dumps({"keys": [{**good, **changed}]}).encode())
    assert len(found) + len(skipped) == 1
