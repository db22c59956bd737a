"""The gateway between a client and a service of the library ``h2``, over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import StreamClosedError

from siger_gateway.config.schema import EndpointSpec
from tests.protocol.wired2 import Wired2

BOUND = 20.0
"""Seconds; it takes two."""


class Peer(asyncio.Protocol):
    """Either side: sends bodies as far as the windows go, takes all that comes."""

    def __init__(self, *, client: bool) -> None:
        self.http = H2Connection(H2Configuration(client_side=client, header_encoding="utf-8"))
        self.client = client
        self.bodies: dict[int, bytearray] = {}
        self.heads: dict[int, dict[str, str]] = {}
        self.trailers: dict[int, dict[str, str]] = {}
        self.outgoing: dict[int, bytes] = {}
        self.over: dict[int, asyncio.Future[str]] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.http.initiate_connection()
        self.flush()

    def flush(self) -> None:
        for stream in list(self.outgoing):
            self.push(stream)
        self.transport.write(self.http.data_to_send())  # type: ignore[attr-defined]

    def push(self, stream: int) -> None:
        try:
            while True:
                room = self.http.local_flow_control_window(stream)
                size = min(room, self.http.max_outbound_frame_size, len(self.outgoing[stream]))
                if size <= 0 < len(self.outgoing[stream]):
                    return
                rest = self.outgoing[stream][size:]
                self.http.send_data(stream, self.outgoing[stream][:size], end_stream=not rest)
                self.outgoing[stream] = rest
                if not rest:
                    break
        except StreamClosedError:
            pass
        del self.outgoing[stream]

    def data_received(self, data: bytes) -> None:
        for event in self.http.receive_data(data):  # raises when the gateway breaks the protocol
            self.handle(event)
        self.flush()

    def handle(self, event: Event) -> None:
        if isinstance(event, RequestReceived | ResponseReceived):
            self.heads[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
            self.bodies[event.stream_id] = bytearray()
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, StreamEnded):
            self.ended(event.stream_id)
        elif isinstance(event, StreamReset):
            self.outgoing.pop(event.stream_id, None)
            if self.client and not self.over[event.stream_id].done():
                self.over[event.stream_id].set_result("reset")
        elif isinstance(event, WindowUpdated):
            pass  # ``flush`` looks at all

    def ended(self, stream: int) -> None:
        if self.client:
            self.over[stream].set_result("whole")
        else:
            self.http.send_headers(
                stream, [(":status", "200"), ("x-path", self.heads[stream][":path"])]
            )
            self.outgoing[stream] = bytes(self.bodies[stream])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def ask(self, path: str, body: bytes) -> int:
        stream = self.http.get_next_available_stream_id()
        self.over[stream] = asyncio.get_running_loop().create_future()
        fields = [(":method", "POST" if body else "GET"), (":scheme", "http")]
        self.http.send_headers(
            stream, [*fields, (":authority", "a"), (":path", path)], end_stream=not body
        )
        if body:
            self.outgoing[stream] = body
        self.flush()
        return stream


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Wired2, Peer]]:
    """A client that is connected to a gateway in front of an ``h2`` service."""
    loop = asyncio.get_running_loop()
    services: list[Peer] = []

    def serve() -> Peer:
        services.append(Peer(client=False))
        return services[-1]

    server = await loop.create_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    wired = Wired2(body=100_000_000)
    wired.cluster.update((EndpointSpec(f"127.0.0.1:{port}"),))
    await wired.listener.start("127.0.0.1", 0)
    _, client = await loop.create_connection(
        lambda: Peer(client=True), "127.0.0.1", wired.listener.port
    )
    try:
        async with asyncio.timeout(BOUND):
            yield wired, client
            assert wired.metrics.in_flight == 0
            await wired.listener.drain(5.0, 0.05)
            await client.lost
    finally:
        wired.listener.close()
        await wired.cluster.close()
        for service in services:
            service.transport.abort()  # type: ignore[attr-defined]
        server.close()


async def test_bodies_of_all_sizes_come_back_as_they_were_sent() -> None:
    chance = random.Random(1)
    async with gateway() as (_, client):
        sent = {}
        for number in range(60):
            body = chance.randbytes(chance.choice([0, 1, 100, 16384, 65536, 300_000]))
            sent[client.ask(f"/h2/{number}", body)] = (number, body)
        for stream, (number, body) in sent.items():
            assert await client.over[stream] == "whole"
            assert client.heads[stream][":status"] == "200"
            assert client.heads[stream]["x-path"] == f"/h2/{number}"
            assert client.bodies[stream] == body


async def test_streams_that_a_client_gives_up_disturb_no_others() -> None:
    async with gateway() as (_, client):
        kept = []
        for number in range(100):
            stream = client.ask("/h2", bytes(50_000))
            if number % 3:
                client.http.reset_stream(stream, 8)
                client.outgoing.pop(stream, None)
                client.flush()
            else:
                kept.append(stream)
        for stream in kept:
            assert await client.over[stream] == "whole"
            assert len(client.bodies[stream]) == 50_000
