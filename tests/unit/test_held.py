"""Requests whose filters have to ask somebody: the real wire and dispatcher, a transport that only
remembers, and filters that answer when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from siger_gateway.config.schema import DirectResponseConfig, MatchConfig
from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call, Filter, Verdict
from siger_gateway.http.connection import ServerLimits
from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.answer import DirectResponse
from siger_gateway.proxy.dispatch import Dispatcher
from siger_gateway.proxy.route import AnswerRoute, Route
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import Metrics
from tests.protocol.wired import Memory

GET = b"GET /asks HTTP/1.1\r\nHost: a\r\n\r\n"
OPEN = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"


class Wire(Memory):
    """A transport that knows whether it is read."""

    reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Bench:
    """One connection to a gateway with a route whose ``asking`` filters ask."""

    def __init__(self, asking: int = 1) -> None:
        self.asked: list[asyncio.Future[Verdict]] = []
        self.ended = 0
        self.metrics = Metrics()
        reply = DirectResponse(DirectResponseConfig(200, "done"), None)
        filters: tuple[Filter, ...] = (self._enter, *[self._ask] * asking)
        stats = self.metrics.routes["r"]
        asks, opens = AnswerRoute("r", stats, reply, filters), AnswerRoute("o", stats, reply)
        table: RouteTable[Route] = RouteTable(
            [(MatchConfig(path="/asks"), asks), (MatchConfig(path="/open"), opens)]
        )
        dispatcher = Dispatcher(table, Accounts(self.metrics, None), None)
        limits = ServerLimits(8192, 10_000, 10.0, 75.0, 100, 128)
        self.listener = Listener(dispatcher, limits)
        self.wire = Wire()
        self.connection = DownstreamConnection(self.listener)
        self.connection.connection_made(self.wire)  # type: ignore[arg-type]

    def _enter(self, call: Call) -> Verdict:
        call.on_end.append(self._leave)
        return None

    def _leave(self) -> None:
        self.ended += 1

    def _ask(self, call: Call) -> Awaitable[Verdict]:
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self.asked.append(future)
        return future

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def answer(self, verdict: Verdict) -> None:
        self.asked[-1].set_result(verdict)
        await self.settle()

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.wire.written.split(b"HTTP/1.1 ")[1:]]


async def bench_with(sends: bytes, asking: int = 1) -> Bench:
    bench = Bench(asking)
    bench.connection.data_received(sends)
    await bench.settle()
    return bench


async def test_one_read_is_kept_until_the_answer_is_there_and_no_more() -> None:
    bench = await bench_with(GET)
    assert (bench.wire.written, bench.wire.reading) == (b"", True)  # to notice a client that leaves
    bench.connection.data_received(b"GET /as")
    assert (bench.wire.written, bench.wire.reading) == (b"", False)
    await bench.answer(None)
    assert (bench.statuses, bench.wire.reading) == ([200], True)
    assert (bench.ended, bench.metrics.in_flight) == (1, 0)


async def test_a_client_that_leaves_meanwhile_is_accounted_at_once() -> None:
    bench = await bench_with(GET)
    bench.connection.connection_lost(None)
    assert (bench.ended, bench.metrics.in_flight) == (1, 0)
    await bench.settle()
    assert bench.asked[0].cancelled()


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    bench = await bench_with(OPEN + GET + OPEN + GET)
    assert bench.statuses == [200]
    await bench.answer(GatewayError("unauthenticated"))
    assert bench.statuses == [200, 401, 200]
    await bench.answer(None)
    assert bench.statuses == [200, 401, 200, 200]
    assert (len(bench.asked), bench.metrics.in_flight, bench.wire.reading) == (2, 0, True)


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\n12345",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("cut", [None, 1, 3])
@pytest.mark.parametrize("asking", [1, 2, 3])
async def test_a_body_is_there_for_whoever_answers(
    body: bytes, cut: int | None, asking: int
) -> None:
    head, tail = body[:-cut] if cut else body, body[-cut:] if cut else b""
    bench = await bench_with(b"POST /asks HTTP/1.1\r\nHost: a\r\n" + head, asking)
    for _ in range(asking):
        await bench.answer(None)
    if tail:
        assert bench.wire.reading
        bench.connection.data_received(tail)
    assert bench.statuses == [200]
    assert (bench.ended, bench.metrics.in_flight) == (1, 0)


@pytest.mark.parametrize("asking", [1, 2])
async def test_a_body_is_asked_for_once_it_is_known_who_asks(asking: int) -> None:
    expecting = (
        b"POST /asks HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    bench = await bench_with(expecting, asking)
    for _ in range(asking):
        assert bench.statuses == []
        await bench.answer(None)
    assert bench.statuses == [100]
    bench.connection.data_received(b"ab")
    assert bench.statuses == [100, 200]
    bench = await bench_with(expecting)
    await bench.answer(GatewayError("unauthenticated"))
    assert bench.statuses == [401]


async def test_a_body_that_breaks_while_it_is_held_is_refused() -> None:
    bench = await bench_with(
        b"POST /asks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    bench.connection.data_received(b"xyz\r\n")  # of the same TLS record, perhaps
    assert bench.statuses == []
    await bench.answer(None)
    assert bench.statuses == [200]  # a small answer that has not waited for the body
    assert bench.wire.closing
    assert bench.metrics.in_flight == 0


@pytest.mark.parametrize("failure", [RuntimeError("x"), asyncio.CancelledError()])
async def test_a_filter_that_fails_is_no_way_through_and_nothing_hangs(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await bench_with(GET + OPEN)
    if isinstance(failure, asyncio.CancelledError):  # of a task that several requests wait for
        bench.asked[0].cancel()
    else:
        bench.asked[0].set_exception(failure)
    await bench.settle()
    assert bench.statuses == [500, 200]
    assert (bench.ended, bench.metrics.in_flight) == (1, 0)
    assert "a filter failed" in caplog.text


@pytest.mark.parametrize("answered", [False, True], ids=["before", "in the same turn"])
async def test_a_client_that_goes_while_it_is_held_is_accounted_once(answered: bool) -> None:
    bench = await bench_with(GET)
    if answered:
        bench.asked[0].set_result(None)
    bench.connection.connection_lost(None)
    await bench.settle()
    assert bench.asked[0].cancelled() is not answered
    assert (bench.wire.written, bench.ended, bench.metrics.in_flight) == (b"", 1, 0)
    assert bench.metrics.routes["r"].requests == {(b"GET", 499): 1}


async def test_a_drain_that_ends_while_a_request_is_held_cuts_it() -> None:
    bench = await bench_with(GET + OPEN)
    bench.listener.close()
    await bench.settle()
    assert bench.asked[0].cancelled()
    assert (bench.wire.aborted, bench.ended, bench.metrics.in_flight) == (True, 1, 0)


async def test_a_held_request_is_never_too_slow() -> None:
    for sends in (GET, b"POST /asks HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"):
        bench = await bench_with(sends)
        bench.listener.check(bench.listener.now + 1000.0)
        assert (bench.statuses, bench.wire.closing) == ([], False)
        bench.connection.connection_lost(None)
