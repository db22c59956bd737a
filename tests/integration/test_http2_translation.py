"""Clients and services that speak different versions, through a real gateway process: the ``h2``
library on the side of HTTP/2, raw bytes on that of HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.conftest import Serve, Services
from tests.h2_peers import H2Stream, StreamReset, h2_client, h2_service
from tests.running import BOUND, RunningGateway, Served, Upstream, eventually

BODY = bytes(range(256)) * 4096
"""1 MiB."""

BeforeHttp2 = Callable[[Callable[[H2Stream], Awaitable[None]]], Awaitable[RunningGateway]]
BeforeHttp1 = Callable[[Callable[[Upstream, Served], Awaitable[None]]], Awaitable[RunningGateway]]


def routed(address: str, protocol: str) -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{address}"], protocol: {protocol}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


@pytest.fixture
async def before_http2(serve: Serve) -> AsyncIterator[BeforeHttp2]:
    """``await before_http2(script)`` starts a service of HTTP/2 and a gateway in front of it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(script: Callable[[H2Stream], Awaitable[None]]) -> RunningGateway:
            address = await stack.enter_async_context(h2_service(script))
            return await serve(routed(address, "h2c"))

        yield start


@pytest.fixture
def before_http1(serve: Serve, services: Services) -> BeforeHttp1:
    async def start(script: Callable[[Upstream, Served], Awaitable[None]]) -> RunningGateway:
        return await serve(routed((await services(script))[0].address, "http"))

    return start


def chunked(body: bytes, size: int = 100_000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


# A client of HTTP/1.1, a service of HTTP/2.


async def echo_http2(stream: H2Stream) -> None:
    head = await stream.head()
    body = await stream.body()
    fields = [(":status", "200"), ("x-method", head[":method"]), ("x-path", head[":path"])]
    fields.append(("x-trailer", stream.trailers.get("x-sum", "")))
    await stream.send_head(*fields)
    await stream.send(body, end=True)


async def test_a_body_of_known_length_there_and_back(before_http2: BeforeHttp2) -> None:
    gateway = await before_http2(echo_http2)
    async with gateway.connect() as client:
        for _ in range(2):
            answer = await client.request("PUT /a?b=c", body=BODY)
            assert (answer.status, answer.body) == (200, BODY)
            assert answer.headers["transfer-encoding"] == "chunked"
            assert (answer.headers["x-method"], answer.headers["x-path"]) == ("PUT", "/a?b=c")


async def test_a_chunked_body_and_its_trailers(before_http2: BeforeHttp2) -> None:
    gateway = await before_http2(echo_http2)
    async with gateway.connect() as client:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        await client.send(head + chunked(BODY) + b"0\r\nX-Sum: 42\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, BODY)
        assert answer.headers["x-trailer"] == "42"


async def test_trailers_of_a_service_of_http2(before_http2: BeforeHttp2) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.send_head((":status", "200"), ("trailer", "x-sum"))
        await stream.send(b"abc")
        await stream.send_head(("x-sum", "7"), end=True)

    gateway = await before_http2(script)
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        status, fields = await client.head()
        assert (status, fields["transfer-encoding"]) == (200, "chunked")
        async with asyncio.timeout(BOUND):
            raw = await client.reader.readuntil(b"\r\n\r\n")
        assert raw == b"3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"


async def without_a_body(stream: H2Stream) -> None:
    head = await stream.head()
    status = head[":path"][1:]
    fields = [(":status", status)]
    if head[":method"] == "HEAD" or status == "304":
        fields.append(("content-length", "1000"))
    await stream.send_head(*fields, end=True)


async def test_responses_without_a_body_from_a_service_of_http2(before_http2: BeforeHttp2) -> None:
    """All on one connection: had one of them a body, the next would not be understood."""
    gateway = await before_http2(without_a_body)
    async with gateway.connect() as client:
        for line, status, length in (
            ("HEAD /200", 200, "1000"),
            ("GET /204", 204, None),
            ("GET /304", 304, "1000"),
            ("HEAD /304", 304, "1000"),
        ):
            answer = await client.request(line)
            assert (answer.status, answer.headers.get("content-length")) == (status, length)
        answer = await client.request("GET /200")
        assert (answer.status, answer.body) == (200, b"")


async def test_a_client_of_http1_is_told_to_continue(before_http2: BeforeHttp2) -> None:
    gateway = await before_http2(echo_http2)
    async with gateway.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert (await client.head())[0] == 100
        await client.send(b"abc")
        assert (await client.answer()).body == b"abc"


async def test_early_hints_of_a_service_of_http2(before_http2: BeforeHttp2) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.send_head((":status", "103"), ("link", "</a.css>"))
        await stream.send_head((":status", "200"), end=True)

    gateway = await before_http2(script)
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.head() == (103, {"link": "</a.css>"})
        assert (await client.answer()).status == 200


async def test_an_answer_of_a_service_of_http2_before_the_end_of_the_request(
    before_http2: BeforeHttp2,
) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.head()
        await stream.send_head((":status", "413"), ("content-length", "3"))
        await stream.send(b"big", end=True)
        await stream.was_reset()  # NO_ERROR or CANCEL: the rest is not wanted

    gateway = await before_http2(script)
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\nabc")
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"big")


@pytest.mark.parametrize("length", [(), (("content-length", "1000"),)], ids=["open", "sized"])
async def test_a_response_of_http2_that_is_broken_off_is_none_in_http1(
    before_http2: BeforeHttp2, length: tuple[tuple[str, str], ...]
) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.send_head((":status", "200"), *length)
        await stream.send(b"half")
        await stream.body()
        await stream.give_up()

    gateway = await before_http2(script)
    async with gateway.connect() as client:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.request("GET /")


async def test_a_response_of_http2_that_is_too_short_is_none_in_http1(
    before_http2: BeforeHttp2,
) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.send_head((":status", "200"), ("content-length", "1000"))
        await stream.send(b"half", end=True)

    gateway = await before_http2(script)
    async with gateway.connect() as client:
        # Unless the head has been passed on before.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            assert (await client.request("GET /")).status == 502


# A client of HTTP/2, a service of HTTP/1.1.


async def echo_http1(upstream: Upstream, served: Served) -> None:
    await served.ok(await served.body(), b"X-Line: " + served.line.encode())


async def test_bodies_of_http2_there_and_back(before_http1: BeforeHttp1) -> None:
    gateway = await before_http1(echo_http1)
    async with h2_client(gateway.port) as client:
        for fields in ((), (("content-length", str(len(BODY))),)):
            stream = await client.ask("POST", "/a?b=c", *fields, end=False)
            await stream.send(BODY, end=True)
            head = await stream.head()
            assert (head[":status"], head["content-length"]) == ("200", str(len(BODY)))
            assert head["x-line"] == "POST /a?b=c HTTP/1.1"
            assert await stream.body() == BODY


async def test_a_chunked_response_and_its_trailers_to_a_client_of_http2(
    before_http1: BeforeHttp1,
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        await served.send(head + chunked(BODY) + b"0\r\nX-Sum: 42\r\n\r\n")

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("GET", "/", ("te", "trailers"))
        head = await stream.head()
        assert not {"transfer-encoding", "connection"} & head.keys()
        assert await stream.body() == BODY
        assert stream.trailers == {"x-sum": "42"}


async def test_trailers_of_a_request_of_http2(before_http1: BeforeHttp1) -> None:
    seen = asyncio.get_running_loop().create_future()

    async def script(upstream: Upstream, served: Served) -> None:
        seen.set_result(await served.reader.readuntil(b"0\r\nx-sum: 42\r\n\r\n"))
        await served.ok()

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("POST", "/", ("trailer", "x-sum"), end=False)
        await stream.send(b"abc")
        await stream.send_head(("x-sum", "42"), end=True)
        assert await stream.body() == b"ok"
    assert seen.result() == b"3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n"


async def test_responses_without_a_body_to_a_client_of_http2(before_http1: BeforeHttp1) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        method, path, _ = served.line.split()
        length = b"Content-Length: 1000\r\n" if method == "HEAD" or path == "/304" else b""
        await served.send(b"HTTP/1.1 %b x\r\n%b\r\n" % (path[1:].encode(), length))

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        for method, status, length in (
            ("HEAD", "200", "1000"),
            ("GET", "204", None),
            ("GET", "304", "1000"),
        ):
            stream = await client.ask(method, f"/{status}")
            head = await stream.head()
            assert (head[":status"], head.get("content-length")) == (status, length)
            assert await stream.body() == b""


async def test_a_client_of_http2_is_told_to_continue(before_http1: BeforeHttp1) -> None:
    gateway = await before_http1(echo_http1)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("POST", "/", ("expect", "100-continue"), end=False)
        assert (await stream.interim_response())[":status"] == "100"
        await stream.send(b"abc", end=True)
        assert await stream.body() == b"abc"


async def test_early_hints_to_a_client_of_http2(before_http1: BeforeHttp1) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await served.ok()

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("GET", "/")
        assert await stream.interim_response() == {":status": "103", "link": "</a.css>"}
        assert await stream.body() == b"ok"


async def test_an_answer_before_the_end_of_a_request_of_http2(before_http1: BeforeHttp1) -> None:
    """The stream ends, and the connection goes on."""

    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(b"enough")

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("POST", "/", end=False)
        await stream.send(b"abc")
        assert (await stream.head())[":status"] == "200"
        assert await stream.body() == b"enough"
        assert await stream.was_reset() == 0  # NO_ERROR (RFC 9113 section 8.1)
        again = await client.ask("GET", "/")
        assert await again.body() == b"enough"


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense\r\n",
    ],
    ids=["sized", "between chunks", "in a chunk", "malformed"],
)
async def test_a_response_that_is_broken_off_resets_the_stream(
    before_http1: BeforeHttp1, sent: bytes
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(sent)
        raise EOFError

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("GET", "/", ("x-request-id", "broken"))
        try:
            assert (await stream.head())[":status"] == "502"  # the head had not been passed on yet
        except (StreamReset, AssertionError):
            assert await stream.was_reset()
        assert (await gateway.access("broken"))["reason"] in ("upstream_reset", "upstream_protocol")


async def test_a_response_of_http11_that_ends_with_its_connection(
    before_http1: BeforeHttp1,
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY)
        raise EOFError

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("GET", "/")
        assert await stream.body() == BODY


async def test_a_client_of_http2_that_gives_up_is_noticed(before_http1: BeforeHttp1) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        asked.set()
        await served.reader.read()
        gone.set()
        raise EOFError

    gateway = await before_http1(script)
    async with h2_client(gateway.port) as client:
        stream = await client.ask("GET", "/")
        await asyncio.wait_for(asked.wait(), BOUND)
        await stream.give_up()
        await asyncio.wait_for(gone.wait(), BOUND)
    await eventually(lambda: gateway.in_flight(0))
