"""WebSockets over HTTP/2 (RFC 8441) through a real gateway process, on either side of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from tests.conftest import Serve, Services
from tests.h2_peers import H2Peer, H2Stream, h2_client, h2_service
from tests.running import BOUND, RunningGateway, Served, Upstream, eventually

ASK = ((":protocol", "websocket"), ("sec-websocket-version", "13"))
MEBIBYTE = 1 << 20


class WebSocket:
    """The frames of a WebSocket on a stream."""

    def __init__(self, stream: H2Stream, side: Side) -> None:
        self.stream = stream
        self.frames = Protocol(side, max_size=64 * MEBIBYTE)

    async def flush(self) -> None:
        for data in self.frames.data_to_send():
            await self.stream.send(data, end=not data)

    async def frame(self) -> Frame:
        while True:
            for event in self.frames.events_received():
                assert isinstance(event, Frame)
                return event
            data = await self.stream.some()
            if data:
                self.frames.receive_data(data)
            else:
                self.frames.receive_eof()
            await self.flush()

    async def send(self, message: bytes) -> None:
        self.frames.send_binary(message)
        await self.flush()


def routed(address: str, protocol: str = "http") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{address}"], protocol: {protocol}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == b"close":
            await connection.close(4001, "as asked")
            return
        await connection.send(message)


class Echo:
    """A WebSocket server on HTTP/1.1."""

    def __init__(self) -> None:
        self.address = ""
        self.paths: list[str] = []
        self.ended = asyncio.Event()

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        try:
            await echo(connection)
        except websockets.ConnectionClosed:
            pass
        finally:
            self.ended.set()


@pytest.fixture
async def echo_service() -> AsyncIterator[Echo]:
    service = Echo()
    server = await serve_websockets(
        service.serve, "127.0.0.1", 0, max_size=64 * MEBIBYTE, compression=None
    )
    service.address = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
    yield service
    server.close()
    await server.wait_closed()


async def opened(client: H2Peer, path: str = "/chat?room=1") -> WebSocket:
    async with asyncio.timeout(BOUND):
        await client.upgrades.wait()
    stream = await client.ask("CONNECT", path, *ASK, end=False)
    head = await stream.head()
    assert head[":status"] == "200"
    assert not {"connection", "upgrade", "sec-websocket-accept"} & head.keys()
    return WebSocket(stream, Side.CLIENT)


async def test_a_client_of_http2_talks_to_a_service_of_http1(
    serve: Serve, echo_service: Echo
) -> None:
    gateway = await serve(routed(echo_service.address))
    async with h2_client(gateway.port) as client:
        sockets = [await opened(client, f"/chat?room={number}") for number in range(3)]
        for number, socket in enumerate(sockets):
            await socket.send(b"hello %d" % number)
        for number, socket in enumerate(sockets):
            assert (await socket.frame()).data == b"hello %d" % number
    assert echo_service.paths == [f"/chat?room={number}" for number in range(3)]


async def test_large_messages(serve: Serve, echo_service: Echo) -> None:
    """Far more than the windows, in both directions at the same time."""
    gateway = await serve(routed(echo_service.address))
    message = bytes(range(256)) * (4 * MEBIBYTE // 256)
    async with h2_client(gateway.port) as client:
        socket = await opened(client)
        await socket.send(message)
        received = b""
        while len(received) < len(message):
            received += (await socket.frame()).data
        assert received == message
        await socket.send(b"still open")
        assert (await socket.frame()).data == b"still open"


async def test_the_client_closes(serve: Serve, echo_service: Echo) -> None:
    gateway = await serve(routed(echo_service.address))
    async with h2_client(gateway.port) as client:
        socket = await opened(client)
        socket.frames.send_close(4002, "enough")
        await socket.flush()
        assert (await socket.frame()).opcode == Opcode.CLOSE
        closed = socket.frames.close_rcvd
        assert closed is not None
        assert (closed.code, closed.reason) == (4002, "enough")
        assert await socket.stream.some() == b""  # the end of the stream, no reset
        await socket.stream.send(b"", end=True)
        await asyncio.wait_for(echo_service.ended.wait(), BOUND)
    await eventually(lambda: gateway.in_flight(0))


async def test_the_service_closes(serve: Serve, echo_service: Echo) -> None:
    gateway = await serve(routed(echo_service.address))
    async with h2_client(gateway.port) as client:
        socket = await opened(client)
        await socket.send(b"close")
        assert (await socket.frame()).opcode == Opcode.CLOSE
        assert socket.frames.close_rcvd is not None
        assert socket.frames.close_rcvd.code == 4001
        assert await socket.stream.some() == b""
        await socket.stream.send(b"", end=True)
    await eventually(lambda: gateway.in_flight(0))


async def test_a_reset_by_the_client_ends_the_websocket_of_the_service(
    serve: Serve, echo_service: Echo
) -> None:
    gateway = await serve(routed(echo_service.address))
    async with h2_client(gateway.port) as client:
        socket, other = await opened(client), await opened(client)
        await socket.stream.give_up()
        await asyncio.wait_for(echo_service.ended.wait(), BOUND)
        await other.send(b"still here")
        assert (await other.frame()).data == b"still here"


async def test_a_service_that_does_not_upgrade_answers_as_it_does(
    serve: Serve, services: Services
) -> None:
    async def forbidden(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno")

    gateway = await serve(routed((await services(forbidden))[0].address))
    async with h2_client(gateway.port) as client:
        await client.upgrades.wait()
        stream = await client.ask("CONNECT", "/", *ASK, end=False)
        assert (await stream.head())[":status"] == "403"
        assert await stream.body() == b"no"


# A service that speaks HTTP/2.


async def echo_stream(stream: H2Stream) -> None:
    head = await stream.head()
    if head[":method"] != "CONNECT" or head.get(":protocol") != "websocket":
        await stream.send_head((":status", "400"), end=True)
        return
    if head[":path"] == "/refused":
        await stream.send_head((":status", "403"), end=True)
        return
    assert "sec-websocket-key" not in head
    assert head["sec-websocket-version"] == "13"
    await stream.send_head((":status", "200"))
    socket = WebSocket(stream, Side.SERVER)
    while True:
        frame = await socket.frame()
        if frame.opcode == Opcode.CLOSE:
            await socket.flush()
            return
        socket.frames.send_binary(frame.data, fin=frame.fin)
        await socket.flush()


@contextlib.asynccontextmanager
async def before_http2(serve: Serve) -> AsyncIterator[RunningGateway]:
    """A gateway in front of such a service, to which it has a connection."""
    async with h2_service(echo_stream) as address:
        gateway = await serve(routed(address, "h2c"))
        assert (await gateway.get("/")).status == 400
        yield gateway


async def test_a_client_of_http1_talks_to_a_service_of_http2(serve: Serve) -> None:
    async with before_http2(serve) as gateway:
        url = f"ws://127.0.0.1:{gateway.port}/chat"
        async with asyncio.timeout(BOUND), connect(url, compression=None) as client:
            await client.send(b"hello")
            assert await client.recv() == b"hello"
            message = bytes(range(256)) * (MEBIBYTE // 512)
            await client.send(message)
            assert await client.recv() == message
            await client.close(4003, "done")
            assert (client.close_code, client.close_reason) == (4003, "done")


async def test_a_client_of_http2_talks_to_a_service_of_http2(serve: Serve) -> None:
    async with before_http2(serve) as gateway, h2_client(gateway.port) as client:
        socket = await opened(client)
        await socket.send(b"hello")
        assert (await socket.frame()).data == b"hello"


async def test_a_refusal_of_the_service_comes_to_the_client(serve: Serve) -> None:
    async with before_http2(serve) as gateway:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{gateway.port}/refused"):
                pass
        assert refused.value.response.status_code == 403


async def test_the_first_thing_that_a_service_of_http2_is_asked_for_may_be_a_websocket(
    serve: Serve,
) -> None:
    """Only who has said in its SETTINGS that it takes the extended CONNECT is asked for it (RFC
    8441 section 3), so they have to be awaited."""
    async with h2_service(echo_stream) as address:
        gateway = await serve(routed(address, "h2c"))
        url = f"ws://127.0.0.1:{gateway.port}/chat"
        async with asyncio.timeout(BOUND), connect(url, compression=None) as client:
            await client.send(b"hello")
            assert await client.recv() == b"hello"


async def test_a_service_that_takes_no_websockets_is_not_asked_for_one(serve: Serve) -> None:
    async def script(stream: H2Stream) -> None:
        await stream.send_head((":status", "200"), end=True)

    async with h2_service(script, upgrades=False) as address:
        gateway = await serve(routed(address, "h2c"))
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{gateway.port}/chat"):
                pass
        assert refused.value.response.status_code == 502
