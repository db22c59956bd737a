"""Retries through a real gateway process: what is repeated, how often, and what never is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import Serve, Services
from tests.integration.test_proxy import one_service
from tests.running import BOUND, Served, Upstream, answer_ok, eventually

EVERYTHING = ", retry: {attempts: 3, on: [connect, reset, 502, 503, 504]}"

Script = Callable[[Upstream, Served], Awaitable[None]]


def answers(status: int, *fields: bytes) -> Script:
    """A service that reads the request and answers with ``status``."""

    async def script(upstream: Upstream, served: Served) -> None:
        await served.body()
        head = [b"HTTP/1.1 %d x" % status, b"Content-Length: 4", *fields, b"", b"sick"]
        await served.send(b"\r\n".join(head))

    return script


async def breaks_off(upstream: Upstream, served: Served) -> None:
    await served.body()
    served.writer.transport.abort()
    raise EOFError


async def says_nothing(upstream: Upstream, served: Served) -> None:
    """Until the other side gives up."""
    await served.body()
    await served.reader.read()
    raise EOFError


async def trickles_an_answer(upstream: Upstream, served: Served) -> None:
    """Answers 503 without ever coming to an end."""
    await served.send(b"HTTP/1.1 503 x\r\nContent-Length: 9\r\n\r\nx")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "sick",
    [answers(502), answers(503), answers(504), breaks_off, trickles_an_answer],
    ids=["502", "503", "504", "reset", "endless"],
)
async def test_a_sick_endpoint_is_hidden_behind_a_healthy_one(
    serve: Serve, services: Services, sick: Script
) -> None:
    upstreams = await services(sick, answer_ok)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    async with gateway.connect() as client:
        for _ in range(6):
            assert (await client.request("GET /")).body == b"%d" % upstreams[1].port
    assert len(upstreams[0].served) == 3
    assert len(upstreams[1].served) == 6
    cause = {breaks_off: "upstream_reset"}.get(sick)
    text = (await gateway.get("/metrics")).body.decode()
    retries = [line for line in text.splitlines() if line.startswith("siger_retries_total{")]
    assert [line.rpartition(" ")[2] for line in retries] == ["3.0"]
    assert cause is None or f'reason="{cause}"' in retries[0]


async def test_without_a_word_about_it_an_answer_is_passed_on_as_it_came(
    serve: Serve, services: Services
) -> None:
    sick, well = await services(answers(503), answer_ok)
    gateway = await serve(one_service(sick, well))
    statuses = sorted([(await gateway.get("/")).status for _ in range(4)])
    assert statuses == [200, 200, 503, 503]


async def test_a_connection_that_a_leaving_service_closes_unread_fails_no_get(
    serve: Serve, services: Services
) -> None:
    """Whoever stops accepting drops what is in its queue: new connections end without an answer."""
    leaving, well = await services(breaks_off, answer_ok)
    gateway = await serve(one_service(leaving, well))
    assert [(await gateway.get("/")).status for _ in range(6)] == [200] * 6
    assert (await gateway.request("POST /", body=b"x")).status in (200, 502)
    assert len(leaving.served) in (3, 4)


async def test_a_second_attempt_ends_in_time_whatever_the_other_timeouts_are(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(breaks_off, says_nothing)
    gateway = await serve(one_service(*upstreams, route=", timeout: 1s, stream_idle_timeout: 1s"))
    for _ in range(2):  # so that both are met first
        assert (await gateway.get("/")).json["reason"] == "response_timeout"


async def test_streams_that_a_retry_has_begun_keep_nobody_from_being_retried(
    serve: Serve, services: Services
) -> None:
    async def streams(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await served.reader.read()  # until the other side leaves
        raise EOFError

    upstreams = await services(answers(503), streams)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    async with contextlib.AsyncExitStack() as clients:
        for _ in range(14):  # more than the least budget, times two
            client = await clients.enter_async_context(gateway.connect())
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.head())[0] == 200


@pytest.mark.parametrize("sick", [answers(503), breaks_off, says_nothing])
async def test_a_post_that_a_service_has_seen_is_never_sent_twice(
    serve: Serve, services: Services, sick: Script
) -> None:
    upstreams = await services(sick, sick, sick)
    policy = ", retry: {on: [connect, reset, 503], per_try_timeout: 250ms}, timeout: 5s"
    gateway = await serve(one_service(*upstreams, route=policy))
    for number in range(3):
        answer = await gateway.request("POST /", body=b"%d" % number)
        assert answer.status in (502, 503, 504)
    assert sum(len(upstream.served) for upstream in upstreams) == 3


async def test_a_post_goes_past_an_endpoint_that_takes_no_connection(
    serve: Serve, services: Services
) -> None:
    dead, well = await services(answer_ok, answer_ok)
    await dead.stop()
    gateway = await serve(one_service(dead, well))
    for _ in range(6):
        answer = await gateway.request("POST /", body=b"x" * 100_000)
        assert answer.body == b"%d" % well.port


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(1, 200), (65_000, 200), (70_000, 503)])
async def test_a_body_is_sent_again_as_long_as_it_is_at_hand(
    serve: Serve, services: Services, framing: str, size: int, status: int
) -> None:
    bodies = []

    async def keeps(upstream: Upstream, served: Served) -> None:
        bodies.append(await served.body())
        await served.ok()

    upstreams = await services(answers(503), keeps)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    body = bytes(index * 7 % 251 for index in range(size))
    while not upstreams[0].served:  # whoever has the first turn
        bodies.clear()
        async with gateway.connect() as client:
            if framing == "sized":
                answer = await client.request("PUT /x", body=body)
            else:
                head = b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                pieces = [body[at : at + 9_000] for at in range(0, size, 9_000)]
                chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                await client.send(head + chunks + b"0\r\n\r\n")
                answer = await client.answer()
    assert answer.status == status
    assert bodies == ([body] if status == 200 else [])


async def test_an_attempt_that_takes_too_long_is_left_for_another(
    serve: Serve, services: Services
) -> None:
    slow, well = await services(says_nothing, answer_ok)
    policy = ", timeout: 10s, retry: {on: [reset], per_try_timeout: 200ms}"
    gateway = await serve(one_service(slow, well, route=policy))
    for _ in range(4):
        assert (await gateway.get("/")).body == b"%d" % well.port
    assert len(slow.served) == 2

    async def given_up() -> bool:
        return slow.closed == 2

    await eventually(given_up)


async def test_the_timeout_of_a_route_covers_all_attempts_together(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(*[says_nothing] * 9)
    policy = ", timeout: 700ms, retry: {attempts: 10, on: [reset], per_try_timeout: 300ms}"
    gateway = await serve(one_service(*upstreams, route=policy))
    answer = await gateway.get("/")
    assert (answer.status, answer.json["reason"]) == (504, "response_timeout")
    assert 2 <= sum(len(upstream.served) for upstream in upstreams) <= 3


async def test_a_service_that_asks_for_time_gets_it(serve: Serve, services: Services) -> None:
    upstreams = await services(*[answers(503, b"Retry-After: 30")] * 3)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    answer = await gateway.get("/")
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "30", b"sick")
    assert sum(len(upstream.served) for upstream in upstreams) == 1


async def test_attempts_end_with_the_endpoints_and_with_the_policy(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(*[answers(503)] * 4)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    assert (await gateway.get("/")).body == b"sick"
    assert sorted(len(upstream.served) for upstream in upstreams) == [0, 1, 1, 1]
    (lonely,) = await services(answers(503))
    gateway = await serve(one_service(lonely, route=EVERYTHING))
    assert (await gateway.get("/")).body == b"sick"
    assert len(lonely.served) == 1


async def test_retries_do_not_multiply_the_load_of_a_service_that_fails(
    serve: Serve, services: Services
) -> None:
    waiting: list[Served] = []
    told = asyncio.Event()

    async def fails_when_told(upstream: Upstream, served: Served) -> None:
        waiting.append(served)
        await told.wait()
        await breaks_off(upstream, served)

    upstreams = await services(*[fails_when_told] * 4)
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    requests = [asyncio.create_task(gateway.get("/")) for _ in range(50)]

    async def all_there() -> bool:
        return len(waiting) == 50

    await eventually(all_there)
    told.set()
    async with asyncio.timeout(BOUND):
        answers = await asyncio.gather(*requests)
    reasons = [answer.json["reason"] for answer in answers]
    assert set(reasons) == {"retry_budget", "upstream_reset"}
    assert all(answer.status in (502, 503) for answer in answers)
    # A fifth of fifty at a time, and each of them at most twice.
    assert len(waiting) <= 50 + 2 * 10
    assert reasons.count("retry_budget") >= 30


async def test_a_client_that_leaves_during_the_delay_ends_the_retry(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(answers(503, b"Retry-After: 1"), answers(503, b"Retry-After: 1"))
    gateway = await serve(one_service(*upstreams, route=EVERYTHING))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: gone\r\n\r\n")

        async def asked() -> bool:
            return any(upstream.served for upstream in upstreams)

        await eventually(asked)
    line = await gateway.access("gone")
    assert (line["status"], line["reason"]) == (499, "downstream_closed")
    assert sum(len(upstream.served) for upstream in upstreams) == 1
