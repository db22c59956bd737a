"""Upgrades through a real gateway process: WebSocket with a real library, and raw bytes."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.typing import Subprotocol

from tests.conftest import Serve, Services
from tests.integration.test_proxy import one_service
from tests.running import BOUND, Client, RunningGateway, Served, Upstream, answer_ok, eventually

ASK = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
SPOKEN = [Subprotocol("v2.echo")]
BIG = 16 * 1024 * 1024


async def echo_websocket(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as asked")
        await connection.send(message)


@pytest.fixture
async def websocket_url(serve: Serve) -> AsyncIterator[tuple[RunningGateway, str]]:
    """A gateway in front of a WebSocket server that echoes."""
    server = await serve_websockets(
        echo_websocket, "127.0.0.1", 0, max_size=BIG, subprotocols=SPOKEN, compression=None
    )
    port = next(iter(server.sockets)).getsockname()[1]
    try:
        gateway = await serve(
            'consul_address: ""\nnats_address: ""\n'
            f'services: {{s: {{endpoints: ["127.0.0.1:{port}"], '
            "pool: {max_connections: 2000}}}\n"
            "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
        )
        yield gateway, f"ws://127.0.0.1:{gateway.port}/chat?room=1"
    finally:
        server.close()
        await server.wait_closed()


async def test_a_websocket_carries_large_messages_pings_and_subprotocols(
    websocket_url: tuple[RunningGateway, str],
) -> None:
    gateway, url = websocket_url
    async with (
        asyncio.timeout(BOUND),
        connect(url, max_size=BIG, subprotocols=SPOKEN, compression=None) as client,
    ):
        assert client.subprotocol == "v2.echo"
        assert client.response is not None
        assert "X-Request-ID" in client.response.headers
        await (await client.ping())
        message = bytes(range(256)) * (BIG // 256)
        await client.send(message)
        assert await client.recv() == message
        await client.send("text")
        assert await client.recv() == "text"
        identity = client.response.headers["X-Request-ID"]
    line = await gateway.access(identity)
    assert (line["status"], line["reason"], line["endpoint"] != "") == (101, "", True)
    assert min(line["bytes_in"], line["bytes_out"]) > BIG


async def test_close_codes_pass_in_both_directions(
    websocket_url: tuple[RunningGateway, str],
) -> None:
    _, url = websocket_url
    async with asyncio.timeout(BOUND), connect(url, subprotocols=SPOKEN) as client:
        await client.send("close")
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")
    async with asyncio.timeout(BOUND), connect(url, subprotocols=SPOKEN) as client:
        await client.close(4002, "enough")
        assert (client.close_code, client.close_reason) == (4002, "enough")


async def test_a_thousand_websockets_at_a_time(websocket_url: tuple[RunningGateway, str]) -> None:
    gateway, url = websocket_url
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    async with asyncio.timeout(4 * BOUND), AsyncExitStack() as stack:
        clients = []
        for batch in range(20):
            opened = [
                stack.enter_async_context(
                    connect(url, subprotocols=SPOKEN, compression=None, ping_interval=None)
                )
                for _ in range(50)
            ]
            clients += await asyncio.gather(*opened)
            await clients[-1].send(f"batch {batch}")
            assert await clients[-1].recv() == f"batch {batch}"
        assert await gateway.metric("siger_http_requests_in_flight") == 1001
        await asyncio.gather(*(one.send(str(number)) for number, one in enumerate(clients)))
        echoes = await asyncio.gather(*(one.recv() for one in clients))
        assert echoes == [str(number) for number in range(1000)]

    async def all_ended() -> bool:
        return await gateway.metric('siger_upstream_connections{service="s",state="busy"}') == 0

    await eventually(all_ended)
    assert await gateway.metric("siger_http_requests_in_flight") == 1


async def switch(upstream: Upstream, served: Served) -> None:
    """Goes on in the protocol that it was asked for, and echoes until the client has finished."""
    await served.send(SWITCH + b"hello")
    while data := await served.reader.read(65536):
        await served.send(data)
    await served.send(b"bye")
    raise EOFError


@pytest.fixture
async def tunnel(serve: Serve, services: Services) -> tuple[RunningGateway, Upstream]:
    (upstream,) = await services(switch)
    return await serve(one_service(upstream)), upstream


async def exactly(client: Client, data: bytes) -> None:
    async with asyncio.timeout(BOUND):
        assert await client.reader.readexactly(len(data)) == data


async def test_any_protocol_is_tunnelled_and_each_side_ends_by_itself(
    tunnel: tuple[RunningGateway, Upstream],
) -> None:
    gateway, upstream = tunnel
    async with gateway.connect() as client:
        await client.send(ASK)
        status, headers = await client.head()
        assert (status, headers["upgrade"], headers["connection"]) == (101, "echo", "upgrade")
        assert "content-length" not in headers
        await exactly(client, b"hello")
        await client.send(b"GET / HTTP/1.1\r\nTransfer-Encoding: not http\r\n\r\n")
        await exactly(client, b"GET / HTTP/1.1\r\nTransfer-Encoding: not http\r\n\r\n")
        client.writer.write_eof()
        await exactly(client, b"bye")
        assert await client.at_eof()
    served = upstream.served[0]
    assert (served.field("connection"), served.field("upgrade")) == (["upgrade"], ["echo"])
    assert len(upstream.served) == 1


async def test_what_a_client_sends_too_early_belongs_to_the_tunnel(
    tunnel: tuple[RunningGateway, Upstream],
) -> None:
    gateway, upstream = tunnel
    early = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" * 3000
    async with gateway.connect() as client:
        await client.send(ASK + early[:100])
        await client.send(early[100:])
        await client.head()
        await exactly(client, b"hello")
        await exactly(client, early)
    assert len(upstream.served) == 1


async def test_a_declined_upgrade_leaves_both_connections_in_http(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(one_service(upstream))
    behind = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"
    async with gateway.connect() as client:
        for rest in (b"", behind, behind[:10]):
            await client.send(ASK + rest)
            assert (await client.answer()).status == 200
            if rest:
                await client.send(behind[len(rest) :])
                assert (await client.answer()).status == 200
    assert upstream.connections == 1
    paths = [served.line.split()[1] for served in upstream.served]
    assert paths == ["/chat", "/chat", "/behind", "/chat", "/behind"]


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/a/../b"])
async def test_the_gateway_itself_declines(serve: Serve, services: Services, path: str) -> None:
    gateway = await serve('consul_address: ""\nnats_address: ""\n')
    async with gateway.connect() as client:
        for _ in range(2):
            await client.send(ASK.replace(b"/chat", path.encode()) + ASK.replace(b"/chat", b"/x"))
            assert (await client.answer()).status in (200, 400, 404, 503)
            assert (await client.answer()).status == 404


@pytest.mark.parametrize(
    "offer",
    [
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        b"Upgrade: H2C",
        b"Upgrade: echo, h2c",
        b"Upgrade: echo\r\nUpgrade: h2c",
        b"Upgrade: TLS/1.2",
        b"Upgrade: HTTP/2.0",
        b"Upgrade: ec ho",
        b"Upgrade: ,",
    ],
)
async def test_a_protocol_in_which_requests_would_pass_unseen_is_not_offered(
    serve: Serve, services: Services, offer: bytes
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n" + offer
        await client.send(ask + b"\r\n\r\n")
        assert (await client.answer()).status == 200
    served = upstream.served[0]
    for name in ("upgrade", "connection", "http2-settings"):
        assert served.field(name) == []


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", SWITCH),
        (ASK, SWITCH.replace(b"Upgrade: echo", b"Upgrade: other")),
        (ASK, SWITCH.replace(b"Upgrade: echo\r\n", b"")),
        (ASK, SWITCH.replace(b"Connection: upgrade\r\n", b"")),
        (ASK.replace(b"Connection: Upgrade\r\n", b""), SWITCH),
        (ASK.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"), SWITCH),
    ],
)
async def test_a_switch_that_was_not_offered_is_an_error(
    serve: Serve, services: Services, ask: bytes, answer: bytes
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(answer + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        await client.send(ask)
        refused = await client.answer()
        assert (refused.status, refused.json["reason"]) == (502, "upstream_protocol")


async def test_whoever_reads_slowly_stalls_the_sender(serve: Serve, services: Services) -> None:
    sent = 0
    halted = asyncio.Event()

    async def floods(upstream: Upstream, served: Served) -> None:
        nonlocal sent
        await served.send(SWITCH)
        while True:
            served.writer.write(b"x" * 65536)
            try:
                async with asyncio.timeout(1.0):
                    await served.writer.drain()
            except TimeoutError:
                halted.set()
                await asyncio.Event().wait()
            sent += 65536

    (upstream,) = await services(floods)
    gateway = await serve(one_service(upstream))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(ASK)
        async with asyncio.timeout(4 * BOUND):
            await halted.wait()
    assert sent < 32 * 1024 * 1024  # socket buffers of the kernel, and 512 KiB of ours


@pytest.mark.parametrize("side", ["client", "service"])
async def test_a_broken_side_breaks_the_other(serve: Serve, services: Services, side: str) -> None:
    ended = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH + b"hello")
        try:
            await served.reader.readexactly(1)
            if side == "service":
                reset(served.writer)
            await served.reader.read()
        finally:
            ended.set()

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        await client.send(ASK.replace(b"Host", b"X-Request-Id: broken\r\nHost"))
        await client.head()
        await exactly(client, b"hello")
        await client.send(b"x")
        if side == "client":
            reset(client.writer)
        else:
            assert await client.at_eof()
    async with asyncio.timeout(BOUND):
        await ended.wait()
    reason = {"client": "downstream_closed", "service": "upstream_reset"}[side]
    assert (await gateway.access("broken"))["reason"] == reason


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_silent_tunnel_is_closed_and_a_busy_one_is_not(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(switch)
    gateway = await serve(
        one_service(upstream, route=", timeout: 300ms, stream_idle_timeout: 700ms")
    )
    async with gateway.connect() as client:
        await client.send(ASK.replace(b"Host", b"X-Request-Id: silent\r\nHost"))
        await client.head()
        await exactly(client, b"hello")
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.5
        while loop.time() < until:
            await client.send(b"x")
            await exactly(client, b"x")
        assert await client.at_eof()
    line = await gateway.access("silent")
    assert (line["status"], line["reason"]) == (101, "stream_idle_timeout")


async def test_a_response_that_falls_silent_is_broken_off_and_a_trickling_one_is_not(
    serve: Serve, services: Services
) -> None:
    more = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.5
        while loop.time() < until:
            await served.send(b"1\r\nx\r\n")
            await more.wait()
            more.clear()
        await served.reader.read()

    (upstream,) = await services(script)
    gateway = await serve(
        one_service(upstream, route=", timeout: 300ms, stream_idle_timeout: 700ms")
    )
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: silent\r\n\r\n")
        await client.head()
        async with asyncio.timeout(BOUND):
            while await client.reader.read(6) == b"1\r\nx\r\n":
                more.set()
        assert client.reader.at_eof()
    line = await gateway.access("silent")
    assert (line["status"], line["reason"]) == (200, "stream_idle_timeout")
    assert line["bytes_out"] > 3


async def test_a_tunnel_outlives_a_reload_and_ends_with_the_drain(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(switch)
    gateway = await serve(one_service(upstream, rest="drain_timeout: 1s\n"))
    async with gateway.connect() as client:
        await client.send(ASK)
        await client.head()
        await exactly(client, b"hello")
        await gateway.reload()
        await client.send(b"still")
        await exactly(client, b"still")
        gateway.send(signal.SIGTERM)
        assert await client.at_eof()
    assert await gateway.wait() == 0
