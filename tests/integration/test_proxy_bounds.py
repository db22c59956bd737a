"""What one client or one service may cost a real gateway process, in memory and in others' time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, Client, RunningGateway, Served, Upstream, answer_ok, eventually

MEBIBYTE = 1 << 20
ALLOWED_GROWTH = 24 * MEBIBYTE
"""Bytes of memory that one connection may add: buffers both ways, and the allocator's slack."""


def proxied(upstream: Upstream, rest: str = "") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s}}]\n{rest}"
    )


def memory(gateway: RunningGateway) -> int:
    """Resident bytes of the process, from statm (proc(5)) in pages of 4 KiB."""
    return int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1]) * 4096


async def send_until_stalled(client: Client, piece: bytes, limit: int) -> int:
    """Sends ``piece`` again and again until a second passes in which none is taken, or the
    connection ends; returns how many bytes were written, ``limit`` at most."""
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < limit:
            async with asyncio.timeout(1.0):
                await client.send(piece)
            sent += len(piece)
    return sent


async def test_a_client_that_pipelines_faster_than_it_is_answered_is_not_read(
    serve: Serve, services: Services
) -> None:
    async def never(upstream: Upstream, served: Served) -> None:
        if len(upstream.served) > 50:
            await served.reader.read()
        await served.ok()

    (upstream,) = await services(never)
    gateway = await serve(proxied(upstream))
    before = memory(gateway)
    async with gateway.connect() as client:
        piece = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2000
        sent = await send_until_stalled(client, piece, 64 * MEBIBYTE)
        assert len(upstream.served) > 50
        assert sent < 16 * MEBIBYTE  # the kernel's buffers hold some of it
        assert memory(gateway) - before < 2 * ALLOWED_GROWTH  # parsed requests are large
        client.writer.transport.abort()  # else closing waits for what nobody will read


async def test_every_request_of_a_long_pipelined_burst_is_answered(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, "limits: {header_bytes: 2KiB}\n"))
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with gateway.connect() as client:
        await client.send((one * 3000)[:-5])  # the last one comes in two pieces
        for _ in range(2999):
            assert (await client.answer()).status == 200
        await client.send(one[-5:])
        assert (await client.answer()).status == 200


async def test_a_head_may_follow_a_large_body_at_once(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, "limits: {header_bytes: 2KiB}\n"))
    body = bytes(100_000)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with gateway.connect() as client:
        await client.send(post + b"GET / HTTP/1.1\r\nHo")
        assert (await client.answer()).status == 200
        await client.send(b"st: a\r\n\r\n")
        assert (await client.answer()).status == 200


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 5000, b"x" * 30_000], ids=["many", "one"])
async def test_trailers_without_end_are_refused(
    serve: Serve, services: Services, piece: bytes
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream))
    before = memory(gateway)
    async with gateway.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        )
        sending = asyncio.create_task(send_until_stalled(client, piece, 16 * MEBIBYTE))
        answer = await client.answer()
        assert (answer.status, answer.json["reason"]) == (431, "headers_too_large")
        await sending
    assert memory(gateway) - before < ALLOWED_GROWTH


async def test_a_service_that_reads_slowly_stalls_the_client_not_the_memory(
    serve: Serve, services: Services
) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await go_on.wait()
        await served.ok(b"%d" % len(await served.body()))

    (upstream,) = await services(script)
    gateway = await serve(proxied(upstream, "limits: {body: 1GiB}\n"))
    before = memory(gateway)
    size = 64 * MEBIBYTE
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(MEBIBYTE)
        sent = await send_until_stalled(client, piece, size)
        assert sent < size // 2
        assert memory(gateway) - before < ALLOWED_GROWTH
        go_on.set()
        # The piece that stalled is in the buffer of this side and goes out first.
        await client.send(bytes(size - sent - len(piece)))
        assert (await client.answer()).body == b"%d" % size


async def test_a_client_that_leaves_during_an_upload_takes_the_upstream_request_with_it(
    serve: Serve, services: Services
) -> None:
    broken = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        try:
            await served.body()
        except (EOFError, ConnectionError):
            broken.set()
            raise

    (upstream,) = await services(script)
    gateway = await serve(proxied(upstream))
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\nhalf")

        async def arrived() -> bool:
            return bool(upstream.served)

        await eventually(arrived)
    await asyncio.wait_for(broken.wait(), BOUND)


async def test_an_answer_before_the_end_of_the_upload_is_passed_on(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    (upstream,) = await services(script)
    gateway = await serve(proxied(upstream))
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        answer = await client.answer()
        assert (answer.status, answer.body) == (413, b"no")
        assert await client.at_eof()  # what is left of the body is not read for nothing
    assert (await gateway.get("/")).status == 413
    assert upstream.connections == 2  # nor is the rest of it taken for a request


async def test_a_body_that_ends_with_the_connection_is_passed_on_whole(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        served.writer.close()

    gateway = await serve(proxied(*await services(script)))
    async with gateway.connect() as client:
        for _ in range(2):
            answer = await client.request("GET /")
            assert (answer.body, answer.headers["transfer-encoding"]) == (b"hello", "chunked")


async def test_an_upgrade_that_the_service_declines_is_an_ordinary_request(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream))
    one = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with gateway.connect() as client:
        sending = asyncio.create_task(client.send(one * 2000))
        for _ in range(2000):
            assert (await client.answer()).status == 200
        await sending
    assert upstream.served[-1].field("upgrade") == ["websocket"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["CONNECT", "two transfer codings"],
)
async def test_what_a_service_could_read_in_another_way_does_not_reach_it(
    serve: Serve, services: Services, request_bytes: bytes
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream))
    async with gateway.connect() as client:
        await client.send(request_bytes)
        answer = await client.answer()
        assert (answer.status, answer.json["reason"]) == (400, "bad_request")
        assert await client.at_eof()
    assert not upstream.served


@pytest.mark.parametrize("path", ["/health/live", "/health", "/metrics"])
async def test_probes_are_answered_while_every_connection_to_a_service_is_taken(
    serve: Serve, services: Services, path: str
) -> None:
    async def never(upstream: Upstream, served: Served) -> None:
        await served.reader.read()

    (upstream,) = await services(never)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"], pool: {{max_connections: 1}}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(50):
            client = await stack.enter_async_context(gateway.connect())
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await gateway.get(path)).status == 200


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
async def test_probes_speak_http_1_0_without_host(
    serve: Serve, services: Services, path: str
) -> None:
    """HAProxy's ``option httpchk`` does by default."""
    gateway = await serve(proxied(*await services(answer_ok)))
    async with gateway.connect() as client:
        await client.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert (await client.answer()).status == 200


async def test_a_failure_of_the_service_is_counted_as_one(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")

    gateway = await serve(proxied(*await services(script)))
    answer = await gateway.get("/x")
    assert answer.status == 500
    for series in (
        'siger_http_requests_total{code="500",method="GET",route="r"}',
        'siger_upstream_requests_total{outcome="5xx",service="s"}',
    ):
        assert await gateway.metric(series) == 1
    assert (await gateway.access(answer.headers["x-request-id"]))["status"] == 500


async def test_an_exchange_that_outlasts_the_drain_is_cut_and_accounted(
    serve: Serve, services: Services
) -> None:
    asked = asyncio.Event()

    async def never(upstream: Upstream, served: Served) -> None:
        asked.set()
        await served.reader.read()
        raise EOFError

    (upstream,) = await services(never)
    gateway = await serve(proxied(upstream, "drain_timeout: 200ms\n"))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: cut\r\n\r\n")
        async with asyncio.timeout(BOUND):
            await asked.wait()
        gateway.send(signal.SIGTERM)
        assert await client.at_eof()
    assert await gateway.wait() == 0
    line = await gateway.access("cut")
    assert (line["status"], line["reason"]) == (499, "downstream_closed")
