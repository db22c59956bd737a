"""Forward authentication: what is asked, what the answers mean, and what is remembered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.filters.forward_auth import ForwardAuth, Verdict, digest
from siger_gateway.filters.identity import Identity
from siger_gateway.http1.headers import Headers
from siger_gateway.http1.message import Request

NO_STREAM: Any = None
FIELDS = (b"authorization", b"cookie")
LATER = 10.0**9
"""A moment at which nothing holds any more."""


@dataclass
class Said:
    status: int = 200
    fields: dict[bytes, bytes] = field(default_factory=lambda: {b"x-user": b"alice"})


class Service:
    """Says what it is told to, or fails."""

    def __init__(self, *answers: Said | GatewayError) -> None:
        self.answers = list(answers)
        self.asked: list[Headers] = []
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def ask(self, headers: Headers) -> Said:
        self.asked.append(headers)
        await self.let_go.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, GatewayError):
            raise answer
        return answer

    def auth(self, cache: float = 60.0, capacity: int = 100) -> ForwardAuth:
        return ForwardAuth(self.ask, FIELDS, b"x-user", b"x-roles", cache, capacity)


def call_of(path: str = "/a?b=1", *headers: tuple[bytes, bytes]) -> Call:
    request = Request(b"GET", path.encode(), [(b"host", b"api.test"), *headers], True)
    return Call(request, "192.0.2.1", b"https", NO_STREAM)


async def verdict_of(auth: ForwardAuth, call: Call, now: float = 0.0) -> Verdict:
    found = auth.identify(call, now)
    return found if isinstance(found, Identity | GatewayError) else await found


async def reason_of(said: Said | GatewayError) -> str:
    verdict = await verdict_of(Service(said).auth(), call_of())
    return verdict.reason if isinstance(verdict, GatewayError) else verdict.user


async def test_the_service_is_told_what_is_asked_for_and_shown_what_it_wants_to_see() -> None:
    service = Service(Said())
    cookies = ((b"cookie", b"a=1"), (b"cookie", b"b=2"))
    await verdict_of(service.auth(), call_of("/x?y", *cookies, (b"x-secret", b"s")))
    assert service.asked == [
        [
            (b"x-forwarded-method", b"GET"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"api.test"),
            (b"x-forwarded-uri", b"/x?y"),
            (b"x-forwarded-for", b"192.0.2.1"),
            *cookies,
        ]
    ]


async def test_the_answer_names_user_and_roles() -> None:
    said = Said(fields={b"x-user": b"bob", b"x-roles": b"admin, user,,"})
    verdict = await verdict_of(Service(said).auth(), call_of())
    assert verdict == Identity("bob", "forward", frozenset({"admin", "user"}))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said(204), "alice"),
        (Said(401, {}), "unauthenticated"),
        (Said(403, {}), "auth_refused"),
        (Said(200, {}), "auth_unavailable"),
        (Said(200, {b"x-user": b""}), "auth_unavailable"),
        (Said(200, {b"x-user": b"a\xff"}), "auth_unavailable"),
        (Said(200, {b"x-user": b"x" * 300}), "auth_unavailable"),
        (Said(302, {b"location": b"/login"}), "auth_unavailable"),
        (Said(404), "auth_unavailable"),
        (Said(500), "auth_unavailable"),
        (GatewayError("connect_refused"), "auth_unavailable"),
        (GatewayError("response_timeout"), "auth_unavailable"),
    ],
)
async def test_whatever_is_not_a_clear_yes_lets_nobody_in(
    said: Said | GatewayError, reason: str
) -> None:
    assert await reason_of(said) == reason


async def test_a_service_that_names_nobody_may_let_pass() -> None:
    auth = ForwardAuth(Service(Said(200, {})).ask, FIELDS, b"", b"", 60.0)
    assert await verdict_of(auth, call_of()) == Identity("authorized", "forward")


async def test_the_challenge_of_the_service_is_passed_on_if_it_is_text() -> None:
    for shown, passed in ((b"Basic", "Basic"), (b"a\xffb", None), (b"", None)):
        said = Said(401, {b"www-authenticate": shown})
        verdict = await verdict_of(Service(said).auth(), call_of())
        assert isinstance(verdict, GatewayError)
        assert verdict.headers.get("WWW-Authenticate") == passed


@pytest.mark.parametrize("said", [Said(), Said(401, {}), Said(403, {})])
async def test_an_answer_holds_for_a_while_and_costs_no_wait(said: Said) -> None:
    service = Service(said)
    auth = service.auth()
    first = await verdict_of(auth, call_of())
    again = auth.identify(call_of(), 0.0)
    assert isinstance(again, Identity | GatewayError)
    assert len(service.asked) == 1
    if isinstance(again, GatewayError):
        assert again is not first
    await verdict_of(auth, call_of(), LATER)
    assert len(service.asked) == 2


async def test_a_failure_is_not_remembered() -> None:
    service = Service(GatewayError("connect_refused"), Said())
    auth = service.auth()
    assert isinstance(await verdict_of(auth, call_of()), GatewayError)
    assert isinstance(await verdict_of(auth, call_of()), Identity)


async def test_without_a_cache_each_request_is_asked_for() -> None:
    service = Service(Said())
    auth = service.auth(cache=0.0)
    for _ in range(3):
        await verdict_of(auth, call_of())
    assert len(service.asked) == 3


@pytest.mark.parametrize(
    "other",
    [
        call_of("/other"),
        call_of("/a?b=2"),
        call_of("/a?b=1", (b"cookie", b"a=1")),
        call_of("/a?b=1", (b"authorization", b"a=1")),
        Call(call_of().request, "192.0.2.2", b"https", NO_STREAM),
        Call(call_of().request, "192.0.2.1", b"http", NO_STREAM),
    ],
)
async def test_another_question_is_asked_anew(other: Call) -> None:
    service = Service(Said())
    auth = service.auth()
    await verdict_of(auth, call_of())
    await verdict_of(auth, other)
    assert len(service.asked) == 2


async def test_equal_questions_at_the_same_time_are_asked_once_and_survive_who_leaves() -> None:
    service = Service(Said())
    service.let_go.clear()
    auth = service.auth()
    waiting = [asyncio.ensure_future(verdict_of(auth, call_of())) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    service.let_go.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(one, Identity) for one in answers[1:])
    assert len(service.asked) == 1


async def test_a_million_questions_are_not_all_remembered() -> None:
    auth = Service(Said()).auth(capacity=100)
    for number in range(1000):
        await verdict_of(auth, call_of(f"/{number}"))
        assert not auth._asking
    assert len(auth._young) + len(auth._old) <= 100


async def test_an_outage_is_logged_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    auth = Service(Said(500)).auth()
    for number in range(10):
        await verdict_of(auth, call_of(f"/{number}"))
    assert [record.__dict__["fields"] for record in caplog.records] == [{"why": "status 500"}]


HEADERS = st.lists(st.tuples(st.binary(max_size=4), st.binary(max_size=4)), max_size=4)


@given(HEADERS, HEADERS)
def test_two_questions_share_an_answer_only_if_they_are_the_same(
    one: Headers, other: Headers
) -> None:
    assert (digest(one) == digest(other)) == (one == other)
