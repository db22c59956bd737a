"""Calls that the gateway answers itself: bytes in, and what a stream that remembers was sent."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.grpc.framing import BadFrame, frame
from siger_gateway.grpc.service import Context, Handler, Services
from siger_gateway.grpc.status import Code
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.arrival import Arrival
from siger_gateway.proxy.local_call import MAX_REQUEST, LocalCall
from siger_gateway.telemetry.metrics import Metrics

BOUND = 5.0
"""Seconds in which whatever a test waits for has to happen."""


class Wire:
    """The stream of one call: all that was done with it."""

    def __init__(self) -> None:
        self.peer = "192.0.2.1"
        self.scheme = b"http"
        self.bytes_in = self.bytes_out = 0
        self.head: dict[bytes, bytes] = {}
        self.heads = 0
        self.only_head = False
        self.body = b""
        self.trailers: dict[bytes, bytes] = {}
        self.ends = 0
        self.reading = True

    def send_head(
        self, status: int, headers: Headers, body: bytes, *, sized: bool, ends: bool = False
    ) -> None:
        assert status == 200
        self.head, self.only_head = dict(headers), ends
        self.heads += 1
        self.body += body

    def send_data(self, data: bytes) -> None:
        self.body += data

    def send_end(self, trailers: Headers) -> None:
        self.trailers = dict(trailers)
        self.ends += 1

    def close_after_response(self) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def status(self) -> int:
        """The ``grpc-status``, from where it has to be."""
        return int((self.head if self.only_head else self.trailers)[b"grpc-status"])


class Bench:
    """One call of ``/a.B/Do``, which ``handler`` answers."""

    def __init__(self, handler: Handler | None, *fields: tuple[bytes, bytes]) -> None:
        self.metrics = Metrics()
        self.metrics.in_flight = 1
        self.wire = Wire()
        headers = [(b"content-type", b"application/grpc"), *fields]
        self.request = Request(b"POST", b"/a.B/Do", list(dict(headers).items()), True)
        self.request.http2, self.request.content_length = True, None
        wire: Any = self.wire
        call = Call(self.request, "192.0.2.1", b"http", wire)
        accounts = Accounts(self.metrics, None)
        stats = self.metrics.routes["own"]
        arrival = Arrival(accounts, "own", stats, call, b"/a.B/Do", b"id-1", time.perf_counter())
        services = Services({"a.B": lambda: {} if handler is None else {"Do": handler}})
        self.call = LocalCall(arrival, self.metrics.grpc, services, None)
        self.call.start()

    async def send(self, *messages: bytes, ends: bool = True) -> Bench:
        """Messages, and the end of the request; waits until nothing more happens."""
        for message in messages:
            self.call.on_data(frame(message))
        if ends:
            self.request.complete = True
            self.call.on_end([])
        return await self.settle()

    async def settle(self) -> Bench:
        for _ in range(10):
            await asyncio.sleep(0)
        return self

    def accounted(self, code: str, status: int, reason: str = "") -> None:
        """It was, exactly once, and so."""
        assert sum(self.metrics.grpc.counts.values()) == 1
        assert [key[2] for key in self.metrics.grpc.counts] == [code]
        assert dict(self.metrics.routes["own"].requests) == {(b"POST", status): 1}
        assert dict(self.metrics.local_replies) == ({reason: 1} if reason else {})
        assert self.metrics.in_flight == 0


async def echo(messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
    async for message in messages:
        yield message.upper()


class Waits:
    """A handler that waits for ever, and notes that it was ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(
        self, messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes, None]:
        try:
            async for message in messages:
                yield message
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def failing(error: Exception, *before: bytes) -> Handler:
    async def handler(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes, None]:
        for one in before:
            yield one
        raise error

    return handler


async def test_messages_are_answered_between_a_head_and_trailers() -> None:
    bench = await Bench(echo).send(b"a", b"bc")
    wire = bench.wire
    assert wire.body == frame(b"A") + frame(b"BC")
    assert wire.head[b"content-type"] == b"application/grpc"
    assert wire.head[b"x-request-id"] == b"id-1"
    assert b"grpc-status" not in wire.head
    assert (wire.status, wire.heads, wire.ends) == (0, 1, 1)
    bench.accounted("OK", 200)


async def test_a_message_may_come_byte_by_byte_and_compressed() -> None:
    bench = Bench(echo, (b"grpc-encoding", b"gzip"))
    packed = gzip.compress(b"abc")
    for byte in b"\1" + len(packed).to_bytes(4, "big") + packed:
        bench.call.on_data(bytes([byte]))
    await bench.send()
    assert bench.wire.body == frame(b"ABC")


async def test_a_call_without_any_answer_has_a_head_and_trailers() -> None:
    bench = await Bench(echo).send()
    assert (bench.wire.body, bench.wire.status, bench.wire.only_head) == (b"", 0, False)


async def test_the_head_can_go_before_there_is_a_message() -> None:
    async def early(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes | None, None]:
        yield None
        async for message in messages:
            yield message

    bench = await Bench(early).settle()
    assert (bench.wire.heads, bench.wire.body, bench.wire.ends) == (1, b"", 0)
    await bench.send(b"x")
    assert (bench.wire.heads, bench.wire.body, bench.wire.ends) == (1, frame(b"x"), 1)


async def test_metadata_of_the_handler_is_in_the_trailers() -> None:
    async def says(messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        context.trailers.append((b"x-asked", context.fields[b"x-question"]))
        yield b""

    bench = await Bench(says, (b"x-question", b"why")).send()
    assert bench.wire.trailers[b"x-asked"] == b"why"


async def test_an_error_before_the_first_answer_is_all_in_one_head() -> None:
    error = GatewayError("queue_unavailable", "Später.", headers={"Retry-After": "2"})
    bench = await Bench(failing(error)).send()
    wire = bench.wire
    assert (wire.only_head, wire.heads, wire.ends) == (True, 1, 1)
    assert wire.status == Code.UNAVAILABLE
    assert wire.head[b"grpc-message"] == b"Sp%C3%A4ter."
    assert wire.head[b"retry-after"] == b"2"
    assert wire.head[b"grpc-status-details-bin"]
    assert wire.trailers == {}
    bench.accounted("UNAVAILABLE", 503, "queue_unavailable")


async def test_an_error_after_an_answer_is_in_the_trailers() -> None:
    bench = await Bench(failing(GatewayError("draining"), b"x")).send()
    wire = bench.wire
    assert (wire.only_head, wire.body) == (False, frame(b"x"))
    assert wire.status == Code.UNAVAILABLE
    assert wire.trailers[b"grpc-status-details-bin"]
    assert b"content-type" not in wire.trailers
    bench.accounted("UNAVAILABLE", 200, "draining")


async def test_what_goes_wrong_inside_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    bench = await Bench(failing(KeyError("s3cret"))).send()
    assert bench.wire.status == Code.INTERNAL
    assert b"s3cret" not in bench.wire.head[b"grpc-message"]
    assert [one.message for one in caplog.records] == ["a handler of gRPC failed"]
    bench.accounted("INTERNAL", 500, "internal")


async def test_an_unknown_method_is_unimplemented() -> None:
    bench = await Bench(None).send(b"a")
    assert (bench.wire.status, bench.wire.only_head) == (Code.UNIMPLEMENTED, True)
    bench.accounted("UNIMPLEMENTED", 404, "no_route")


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ((b"content-type", b"application/grpc+json"), Code.UNIMPLEMENTED),
        ((b"grpc-encoding", b"br"), Code.UNIMPLEMENTED),
        ((b"grpc-timeout", b"soon"), Code.INVALID_ARGUMENT),
    ],
)
async def test_a_head_that_cannot_be_served_is_refused_at_once(
    field: tuple[bytes, bytes], code: Code
) -> None:
    bench = Bench(echo, field)
    assert (bench.wire.status, bench.wire.only_head) == (code, True)
    assert bench.wire.head[b"grpc-accept-encoding"] == b"identity,gzip,deflate"
    assert bench.wire.ends == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\2\0\0\0\0", Code.INTERNAL),
        (b"\0" + (MAX_REQUEST + 1).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED),
        (b"\1\0\0\0\1x", Code.INTERNAL),
    ],
)
async def test_bytes_that_are_no_message_end_the_call(data: bytes, code: Code) -> None:
    handler = Waits()
    bench = await Bench(handler).settle()
    bench.call.on_data(data)
    bench.call.on_data(data)  # what was on its way
    await bench.settle()
    assert (bench.wire.status, bench.wire.ends) == (code, 1)
    assert handler.ended.is_set()


async def test_an_end_within_a_message_ends_the_call() -> None:
    bench = await Bench(Waits()).settle()
    bench.call.on_data(frame(b"abc")[:-1])
    bench.call.on_end([])
    assert bench.wire.status == Code.INTERNAL


async def test_a_body_that_breaks_off_ends_the_call() -> None:
    handler = Waits()
    bench = await Bench(handler).settle()
    bench.call.on_request_error(ProtocolError("request_timeout", "Too slow."))
    await bench.settle()
    assert bench.wire.status == Code.DEADLINE_EXCEEDED
    assert handler.ended.is_set()
    bench.accounted("DEADLINE_EXCEEDED", 408, "request_timeout")


async def test_a_handlers_own_bad_frame_is_its_code() -> None:
    bench = await Bench(failing(BadFrame(Code.INTERNAL, "Two messages."))).send()
    assert bench.wire.status == Code.INTERNAL
    assert bench.wire.head[b"grpc-message"] == b"Two messages."


async def test_the_deadline_ends_the_call_and_the_handler() -> None:
    handler = Waits()
    bench = Bench(handler, (b"grpc-timeout", b"20m"))
    await bench.send()
    assert bench.wire.ends == 0
    async with asyncio.timeout(BOUND):
        await handler.ended.wait()
    assert bench.wire.status == Code.DEADLINE_EXCEEDED
    bench.accounted("DEADLINE_EXCEEDED", 504, "response_timeout")


async def test_a_client_that_goes_takes_the_handler_with_it() -> None:
    handler = Waits()
    bench = await Bench(handler).send(b"a")
    bench.call.on_downstream_closed()
    await bench.settle()
    assert handler.ended.is_set()
    assert bench.wire.ends == 0
    bench.accounted("CANCELLED", 499, "downstream_closed")


async def test_a_client_has_to_wait_while_its_messages_do() -> None:
    took: asyncio.Queue[bytes] = asyncio.Queue()
    let_go = asyncio.Event()

    async def slow(messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            took.put_nowait(message)
            await let_go.wait()
            yield message

    bench = await Bench(slow).send(b"a", b"b", ends=False)
    assert (took.qsize(), bench.wire.reading) == (1, False)
    let_go.set()
    await bench.settle()
    assert (took.qsize(), bench.wire.reading) == (2, True)


async def test_small_messages_that_unpack_to_large_ones_are_unpacked_one_by_one() -> None:
    """64 of 1 MiB, each in a kilobyte: what a window holds."""
    sizes: list[int] = []

    async def sizing(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            sizes.append(len(message))  # noqa: PERF401 - each when its turn comes
        yield b""

    packed = gzip.compress(bytes(MAX_REQUEST))
    bench = Bench(sizing, (b"grpc-encoding", b"gzip"))
    tracemalloc.start()
    try:
        bench.call.on_data((b"\1" + len(packed).to_bytes(4, "big") + packed) * 64)
        await bench.send()
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_REQUEST
    finally:
        tracemalloc.stop()
    assert sizes == [MAX_REQUEST] * 64
    assert bench.wire.status == Code.OK


async def test_a_handler_has_to_wait_while_the_client_reads_slowly() -> None:
    made = []

    async def many(messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        for number in range(5):
            made.append(number)
            yield b"%d" % number

    bench = Bench(many)
    bench.call.pause_response()
    await bench.send()
    assert (made, bench.wire.heads) == ([0], 0)
    bench.call.resume_response()
    await bench.settle()
    assert bench.wire.body == b"".join(frame(b"%d" % number) for number in range(5))
    assert bench.wire.status == Code.OK


async def test_a_service_is_made_when_it_is_called_first_and_once() -> None:
    made = []

    def make() -> dict[str, Handler]:
        made.append(1)
        return {"Do": echo}

    services = Services({"a.B": make})
    assert made == []
    assert services.handler(b"/a.C/Do") is None
    assert services.handler(b"/a.B/Undo") is None
    assert services.handler(b"/a.B/Do") is services.handler(b"/a.B/Do") is echo
    assert made == [1]
