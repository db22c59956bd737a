"""Forward authentication: what is asked, what the answers mean, and what is remembered."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.filters.forward_auth import (
    MOST_CHALLENGE,
    QUIET,
    ROLES,
    ForwardAuth,
    Verdict,
    digest,
)
from siger_gateway.filters.identity import Identity
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request

NO_STREAM: Any = None
FIELDS = (b"authorization", b"cookie")
HOST, OTHER_HOST = (b"host", b"api.test"), (b"host", b"other.test")
HOLDS = 60.0
"""Seconds for which answers are remembered."""

DOWN = GatewayError("connect_refused")
SAID = "the authorization service does not answer as it should"
SAID_AGAIN = "the authorization service answers as it should again"


@dataclass
class Said:
    status: int = 200
    fields: dict[bytes, bytes] = field(default_factory=lambda: {b"x-user": b"alice"})


class Service:
    """Says what it is told to, or fails; the last answer stays."""

    def __init__(self, *answers: Said | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Headers] = []
        self.news = asyncio.Event()  # somebody has asked
        self.given_up = 0
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def ask(self, headers: Headers) -> Said:
        self.asked.append(headers)
        self.news.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def auth(self, cache: float = HOLDS, capacity: int = 100) -> ForwardAuth:
        return ForwardAuth(self.ask, FIELDS, b"x-user", b"x-roles", cache, capacity)


def call_of(path: str = "/a?b=1", *headers: tuple[bytes, bytes]) -> Call:
    request = Request(b"GET", path.encode(), [HOST, *headers], True)
    return Call(request, "192.0.2.1", b"https", NO_STREAM)


async def verdict_of(auth: ForwardAuth, call: Call, now: float = 0.0) -> Verdict:
    found = auth.identify(call, now)
    return found if isinstance(found, Identity | GatewayError) else await found


async def reason_of(said: Said | Exception) -> str:
    """Why nobody is let in, or the user who is."""
    verdict = await verdict_of(Service(said).auth(), call_of())
    return verdict.reason if isinstance(verdict, GatewayError) else verdict.user


def ask_together(auth: ForwardAuth, count: int) -> list[asyncio.Future[Verdict]]:
    return [asyncio.ensure_future(verdict_of(auth, call_of())) for _ in range(count)]


async def until_asked(service: Service, times: int = 1) -> None:
    while len(service.asked) < times:
        service.news.clear()
        await service.news.wait()


# What is asked


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


async def test_what_the_client_does_not_send_is_told_as_nothing() -> None:
    service = Service(Said())
    await verdict_of(service.auth(), Call(Request(b"GET", b"/", [], True), "", b"http", NO_STREAM))
    assert dict(service.asked[0])[b"x-forwarded-host"] == b""
    assert dict(service.asked[0])[b"x-forwarded-for"] == b""
    assert len(service.asked[0]) == 5


@pytest.mark.parametrize(
    "name",
    [
        *(b"content-length", b"transfer-encoding", b"connection", b"host", b"expect", b"upgrade"),
        *(b"x-forwarded-for", b"x_forwarded-for", b"x-forwarded-uri", b"x-forwarded_method"),
    ],
)
def test_a_client_can_neither_frame_the_question_nor_stand_in_for_what_it_is_told(
    name: bytes,
) -> None:
    with pytest.raises(ValueError, match=name.decode()):
        ForwardAuth(Service(Said()).ask, (b"cookie", name), b"x-user", b"", HOLDS)


# What the answers mean


async def test_the_answer_names_user_and_roles() -> None:
    said = Said(
        fields={b"x-user": b"bob \t", b"x-roles": b"admin, user,,\tops ,b\xffd," + b"x" * 999}
    )
    verdict = await verdict_of(Service(said).auth(), call_of())
    assert verdict == Identity("bob", "forward", frozenset({"admin", "user", "ops"}))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Said(204), "alice"),
        (Said(299), "alice"),
        (Said(401, {}), "unauthenticated"),
        (Said(403, {}), "auth_refused"),
        (Said(200, {}), "auth_unavailable"),
        (Said(200, {b"x-user": b""}), "auth_unavailable"),
        (Said(200, {b"x-user": b"a\xff"}), "auth_unavailable"),
        (Said(200, {b"x-user": b"a\x01"}), "auth_unavailable"),
        (Said(200, {b"x-user": b"x" * 300}), "auth_unavailable"),
        (Said(302, {b"location": b"/login"}), "auth_unavailable"),
        (Said(300), "auth_unavailable"),
        (Said(404), "auth_unavailable"),
        (Said(407), "auth_unavailable"),
        (Said(500), "auth_unavailable"),
        (GatewayError("connect_refused"), "auth_unavailable"),
        (GatewayError("response_timeout"), "auth_unavailable"),
        (GatewayError("unauthenticated"), "auth_unavailable"),  # not what the service has said
    ],
)
async def test_whatever_is_not_a_clear_yes_lets_nobody_in(
    said: Said | GatewayError, reason: str
) -> None:
    assert await reason_of(said) == reason


async def test_a_client_may_come_back_when_the_service_does() -> None:
    verdict = await verdict_of(Service(DOWN).auth(), call_of())
    assert isinstance(verdict, GatewayError)
    assert (verdict.status, verdict.headers) == (503, {"Retry-After": "1"})


async def test_a_service_that_names_nobody_may_let_pass() -> None:
    auth = ForwardAuth(Service(Said(200, {b"": b"x"})).ask, FIELDS, b"", b"x-roles", HOLDS)
    assert await verdict_of(auth, call_of()) == Identity("authorized", "forward")


@pytest.mark.parametrize(
    ("shown", "passed"),
    [
        (b"Basic", True),
        (b"B" * MOST_CHALLENGE, True),
        (b"B" * (MOST_CHALLENGE + 1), False),
        (b"a\xffb", False),
        (b"a\tb", False),
        (b"a\r\nb: c", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("cache", [0.0, HOLDS])
async def test_the_challenge_of_the_service_is_passed_on_if_it_is_short_and_text(
    shown: bytes, passed: bool, cache: float
) -> None:
    auth = Service(Said(401, {b"www-authenticate": shown})).auth(cache)
    for _ in range(2):
        verdict = await verdict_of(auth, call_of())
        assert isinstance(verdict, GatewayError)
        assert verdict.headers == ({"WWW-Authenticate": shown.decode("latin-1")} if passed else {})


# What is remembered


@pytest.mark.parametrize("said", [Said(), Said(401, {}), Said(403, {})])
async def test_an_answer_holds_for_a_while_from_the_question_on_and_costs_no_wait(
    said: Said,
) -> None:
    service = Service(said)
    auth = service.auth()
    await verdict_of(auth, call_of(), 1000.0)
    again = auth.identify(call_of(), 1000.0 + HOLDS - 0.001)
    assert isinstance(again, Identity | GatewayError)
    assert len(service.asked) == 1
    await verdict_of(auth, call_of(), 1000.0 + HOLDS)
    assert len(service.asked) == 2
    again = auth.identify(call_of(), 1000.0 + 1.5 * HOLDS)
    assert isinstance(again, Identity | GatewayError)
    assert len(service.asked) == 2


async def test_an_answer_that_moves_to_the_young_half_holds_no_longer_for_it() -> None:
    service = Service(Said())
    auth = service.auth(capacity=2)
    await verdict_of(auth, call_of("/1"), 0.0)
    await verdict_of(auth, call_of("/2"), 1.0)  # puts the first into the old half
    assert isinstance(auth.identify(call_of("/1"), HOLDS - 1.0), Identity)  # it changes places
    await verdict_of(auth, call_of("/2"), HOLDS + 1.0)
    assert len(service.asked) == 3
    await verdict_of(auth, call_of("/1"), HOLDS)
    assert len(service.asked) == 4


@pytest.mark.parametrize("cache", [0.0, HOLDS])
async def test_each_request_gets_an_error_of_its_own(cache: float) -> None:
    auth = Service(Said(401, {})).auth(cache)
    seen = [await verdict_of(auth, call_of()) for _ in range(3)]
    seen += await asyncio.gather(*ask_together(auth, 3))
    for verdict in seen:
        assert isinstance(verdict, GatewayError)
        assert verdict.headers == {}
        verdict.headers["WWW-Authenticate"] = "of one request"  # as the authenticator does


async def test_those_who_wait_together_get_an_error_of_their_own_each() -> None:
    one, other = await asyncio.gather(*ask_together(Service(DOWN).auth(), 2))
    assert isinstance(one, GatewayError)
    assert isinstance(other, GatewayError)
    assert one is not other
    assert one.headers is not other.headers


@pytest.mark.parametrize("failure", [DOWN, Said(500), Said(200, {}), Said(302)])
async def test_a_failure_is_not_remembered(failure: Said | Exception) -> None:
    auth = Service(failure, Said()).auth()
    assert isinstance(await verdict_of(auth, call_of()), GatewayError)
    assert isinstance(await verdict_of(auth, call_of()), Identity)


async def test_without_a_cache_each_request_is_asked_for() -> None:
    service = Service(Said())
    auth = service.auth(cache=0.0)
    for _ in range(3):
        await verdict_of(auth, call_of())
    await asyncio.gather(*ask_together(auth, 4))
    assert len(service.asked) == 7


def calls() -> st.SearchStrategy[Call]:
    """Few values in many places, so that calls are often nearly the same."""
    value = st.sampled_from((b"", b"a", b"b", b"/a", b"a1"))
    name = st.sampled_from((b"host", b"cookie", b"authorization", b"x-other"))
    request = st.builds(
        lambda method, target, headers: Request(method, target, headers, True),
        st.sampled_from((b"GET", b"PUT")),
        st.sampled_from((b"/a", b"/a?b", b"/")),
        st.lists(st.tuples(name, value), max_size=3),
    )
    client = st.sampled_from(("", "a", "192.0.2.1"))
    return st.builds(
        lambda request, client, scheme: Call(request, client, scheme, NO_STREAM),
        request,
        client,
        st.sampled_from((b"http", b"https")),
    )


@given(calls(), calls())
async def test_an_answer_holds_for_what_the_service_would_be_told_alike_and_nothing_else(
    one: Call, other: Call
) -> None:
    told = Service(Said())
    for call in (one, other):
        await verdict_of(told.auth(cache=0.0), call)
    service = Service(Said())
    auth = service.auth()
    await verdict_of(auth, one)
    await verdict_of(auth, other)
    assert (len(service.asked) == 1) == (told.asked[0] == told.asked[1])


@pytest.mark.parametrize(
    "other",
    [
        call_of("/other"),
        call_of("/a?b=2"),
        call_of("/a?b=1", (b"cookie", b"a=1")),
        call_of("/a?b=1", (b"authorization", b"a=1")),
        Call(Request(b"GET", b"/a?b=1", [OTHER_HOST], True), "192.0.2.1", b"https", NO_STREAM),
        Call(Request(b"PUT", b"/a?b=1", [HOST], True), "192.0.2.1", b"https", NO_STREAM),
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


PART = st.lists(st.sampled_from((b"a", b"1", b":", b"0:")), max_size=4).map(b"".join)
QUESTION = st.lists(st.tuples(PART, PART), max_size=3)


@given(QUESTION, st.data())
def test_what_is_split_differently_is_another_question(one: Headers, data: Any) -> None:
    together = b"".join(name + value for name, value in one)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(together)), min_size=3, max_size=3)))
    parts = [together[at:to] for at, to in zip([0, *cuts], [*cuts, None], strict=True)]
    other = [(parts[0], parts[1]), (parts[2], parts[3])]
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.parametrize(
    "forged", [b"6:1:cookiea", b"6:cookiea", b"6:cookie1:a", b"cookiea", b"cookie: a\r\n"]
)
def test_a_value_cannot_pass_for_a_field_of_its_own(forged: bytes) -> None:
    one = [(b"x", b"v"), (b"cookie", b"a")]
    assert digest(one) != digest([(b"x", b"v" + forged)])


@given(QUESTION, QUESTION)
def test_two_questions_share_a_key_only_if_they_are_the_same(one: Headers, other: Headers) -> None:
    assert (digest(one) == digest(other)) == (one == other)
    assert digest(one) == digest(list(one))
    assert len(digest(one)) == 32


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(2, 20))
async def test_no_more_answers_are_remembered_than_that(asked: list[int], capacity: int) -> None:
    auth = Service(Said()).auth(capacity=capacity)
    for number in asked:
        await verdict_of(auth, call_of(f"/{number}"))
        assert len(auth._known) <= capacity
        assert not auth._asking
        assert isinstance(auth.identify(call_of(f"/{number}"), 0.0), Identity)


async def test_users_who_come_again_stay_however_many_strangers_come() -> None:
    service = Service(Said())
    auth = service.auth(capacity=100)
    for number in range(1000):
        await verdict_of(auth, call_of("/mine"))
        await verdict_of(auth, call_of(f"/{number}"))
    assert len(service.asked) == 1001
    assert len(auth._known) <= 100


async def test_answers_with_many_roles_take_more_room() -> None:
    roles = b",".join(b"r%d" % number for number in range(10 * ROLES))
    auth = Service(Said(fields={b"x-user": b"a", b"x-roles": roles})).auth(capacity=110)
    for number in range(100):
        await verdict_of(auth, call_of(f"/{number}"))
    assert len(auth._known) == 10


# Those who wait together


async def test_equal_questions_at_the_same_time_are_asked_once_and_survive_who_leaves() -> None:
    service = Service(Said())
    service.let_go.clear()
    auth = service.auth()
    waiting = ask_together(auth, 50)
    await until_asked(service)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    service.let_go.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(one, Identity) for one in answers[1:])
    assert len(service.asked) == 1
    assert not auth._asking


async def test_a_question_is_given_up_when_the_last_who_waits_has_left() -> None:
    service = Service(Said())
    service.let_go.clear()
    auth = service.auth()
    waiting = ask_together(auth, 3)
    await until_asked(service)
    for one in waiting[:2]:
        one.cancel()
    await asyncio.wait(waiting[:2])
    assert service.given_up == 0
    waiting[2].cancel()
    await asyncio.wait(waiting)
    assert not auth._asking
    (later,) = ask_together(auth, 1)
    await until_asked(service, 2)
    assert service.given_up == 1
    service.let_go.set()
    assert isinstance(await later, Identity)


async def test_clients_that_come_and_go_leave_no_questions_behind() -> None:
    service = Service(Said())
    service.let_go.clear()
    auth = service.auth()
    for number in range(100):
        one = asyncio.ensure_future(verdict_of(auth, call_of(f"/{number}")))
        await until_asked(service, number + 1)
        one.cancel()
        await asyncio.wait([one])
        assert not auth._asking
    assert len(asyncio.all_tasks()) <= 2  # the test, and the last question on its way out


class Unforeseen(Exception): ...


async def test_what_nobody_has_foreseen_reaches_all_who_wait_and_is_not_remembered() -> None:
    service = Service(Unforeseen(), Said())
    auth = service.auth()
    answers = await asyncio.gather(*ask_together(auth, 3), return_exceptions=True)
    assert [type(one) for one in answers] == [Unforeseen] * 3
    assert len(service.asked) == 1
    assert not auth._asking
    assert isinstance(await verdict_of(auth, call_of()), Identity)


# What the log tells


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, object]]:
    """Level, message and fields of what has been logged."""
    return [(one.levelname, one.getMessage(), one.__dict__.get("fields")) for one in caplog.records]


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def warning(why: str) -> tuple[str, str, object]:
    return ("WARNING", SAID, {"why": why})


AGAIN = ("INFO", SAID_AGAIN, None)


async def test_an_outage_is_told_when_it_begins_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = Service(Said(500)).auth()
    for number in range(1000):
        await verdict_of(auth, call_of(f"/{number}"), float(number))
    assert told(caplog) == [warning("status 500")]
    auth._ask = Service(Said(401, {})).ask
    for number in range(5):
        await verdict_of(auth, call_of(f"/{number}"), 1000.0)
    assert told(caplog) == [warning("status 500"), AGAIN]


async def test_a_service_that_fails_by_turns_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service(*[Said(500), Said(200), Said(404), Said(403, {})] * 100)
    auth = service.auth(cache=0.0)
    for _ in range(200):
        await verdict_of(auth, call_of(), 0.0)
    assert told(caplog) == [warning("status 500"), AGAIN]
    for _ in range(200):
        await verdict_of(auth, call_of(), QUIET)
    assert told(caplog) == [warning("status 500"), AGAIN, warning("status 500"), AGAIN]


async def test_another_kind_of_failure_is_told_too_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    auth = Service(Said(500), DOWN, DOWN, Said(500), DOWN).auth()
    for now in (0.0, 1.0, QUIET, 2 * QUIET, 3 * QUIET):
        await verdict_of(auth, call_of(), now)
    assert told(caplog) == [warning("status 500"), warning("connect_refused")]


async def test_a_service_that_names_no_user_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    await verdict_of(Service(Said(200, {b"x-user": b"s3cret\xff"})).auth(), call_of())
    assert told(caplog) == [warning("it lets pass, and names no user that can be used")]


async def test_nothing_shows_what_was_asked_or_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    secret = ((b"cookie", b"s3cret"), (b"authorization", b"Bearer s3cret"))
    answers = [Said(500, {b"x-user": b"s3cret"}), GatewayError("upstream_reset", "s3cret")]
    service = Service(*answers, Said(fields={b"x-user": b"s3cret"}))
    auth = service.auth()
    for _ in range(3):
        await verdict_of(auth, call_of("/?s3cret", *secret))
    service.let_go.clear()
    waiting = asyncio.ensure_future(verdict_of(auth, call_of("/other?s3cret", *secret)))
    await until_asked(service, 4)
    shown = [repr(auth), *map(repr, asyncio.all_tasks()), *map(str, caplog.records)]
    assert repr(auth) == "<ForwardAuth remembered=1 asking=1>"
    assert not [one for one in shown if "s3cret" in one]
    assert "s3cret" not in caplog.text
    waiting.cancel()
    await asyncio.wait([waiting])
