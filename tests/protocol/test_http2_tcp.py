"""The tables of HTTP/2 once more, through a real gateway process: over TCP, on both of its sides.

Each case is first rehearsed in process. What either end has then heard, piece by piece, it has to
hear from the process, too; so nothing here waits for anything but that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from siger_gateway.http1.request_parser import RequestParser
from siger_gateway.http2.frames import LARGEST_WINDOW, PREFACE
from tests.protocol import http2_responses
from tests.protocol.http2_cases import GOES_ON, ServerCase
from tests.protocol.http2_peer import HELLO, SETTINGS_ACK, Log, data, get, goaway, head, settings
from tests.protocol.http2_responses import OK, ResponseCase2
from tests.protocol.test_http2 import CASES, NEXT
from tests.protocol.wired2 import Wired2, answer_of
from tests.running import BOUND, RunningGateway, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

Heard = dict[str, Any]


def heard(log: Log) -> Heard:
    """What does not depend on how the bytes were cut."""
    return {
        "statuses": {
            stream: [dict(fields).get(b":status") for fields in blocks]
            for stream, blocks in log.heads.items()
        },
        "bodies": {stream: len(body) for stream, body in log.bodies.items()},
        "ended": sorted(log.ended),
        "resets": dict(log.resets),
        "goaways": list(log.goaways),
        "pongs": list(log.pongs),
        "acknowledged": log.acknowledged,
    }


class Service1(asyncio.Protocol):
    """The service of HTTP/1.1 that ``Wired2`` has."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = RequestParser(1 << 20, 1 << 30, 1 << 20)

    def data_received(self, data: bytes) -> None:
        self._parser.receive(data)
        for request in self._parser.started:
            if request.complete or request.path == b"/early":
                self._parser.started.clear()
                self._transport.write(answer_of(request))


class Service2(asyncio.Protocol):
    """One connection to the service of HTTP/2, which says what a test has it say."""

    def __init__(self, all_of_them: list[Service2]) -> None:
        self.log = Log()
        self.news = asyncio.Event()
        self.closed = False
        self._early = b""
        self._all = all_of_them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._all.append(self)
        transport.write(settings() + SETTINGS_ACK)

    def data_received(self, data: bytes) -> None:
        if len(self._early) < len(PREFACE):
            self._early += data
            data = self._early[len(PREFACE) :]
        self.log.read(data)
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.news.set()

    async def until(self, wanted: Any) -> None:
        """Waits until ``wanted()``."""
        async with asyncio.timeout(BOUND):
            while not wanted():
                self.news.clear()
                await self.news.wait()


class Ends:
    """The gateway, and the connections to its service of HTTP/2."""

    def __init__(self, gateway: RunningGateway, services: list[Service2]) -> None:
        self.gateway = gateway
        self.services = services

    async def asked(self, number: int) -> tuple[Service2, int]:
        """The connection on which, and the stream as which, the service got its request."""

        async def find() -> tuple[Service2, int] | None:
            for service in reversed(self.services):
                if not service.closed and service.log.heads:
                    stream = max(service.log.heads)
                    if stream not in service.log.resets and stream >= number:
                        return service, stream
            return None

        return await eventually(find)

    async def leave(self) -> None:
        """The service closes all connections as it should, so that the next case has its own."""
        for service in self.services:
            if not service.closed:
                service.transport.write(goaway(LARGEST_WINDOW))
                await service.until(lambda service=service: service.closed)
        self.services.clear()


class TcpClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.log = Log()
        self._reader = reader
        self._writer = writer

    def send(self, *pieces: bytes) -> None:
        self._writer.writelines(pieces)

    async def hears(self, wanted: Heard) -> None:
        """Waits for exactly this."""
        try:
            async with asyncio.timeout(BOUND):
                while heard(self.log) != wanted:
                    came = await self._reader.read(65536)
                    if not came:
                        break
                    self.log.read(came)
        except TimeoutError:
            pass
        assert heard(self.log) == wanted

    async def answered(self, stream: int) -> None:
        async with asyncio.timeout(BOUND):
            while stream not in self.log.ended:
                came = await self._reader.read(65536)
                assert came, "closed before the answer"
                self.log.read(came)

    async def is_sent_away(self) -> None:
        async with asyncio.timeout(BOUND):
            self.log.read(await self._reader.read())


@asynccontextmanager
async def connected(gateway: RunningGateway) -> AsyncIterator[TcpClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.grpc_port)
    try:
        yield TcpClient(reader, writer)
    finally:
        writer.transport.abort()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    loop = asyncio.get_running_loop()
    services: list[Service2] = []
    one = await loop.create_server(Service1, "127.0.0.1", 0)
    two = await loop.create_server(lambda: Service2(services), "127.0.0.1", 0)
    ports = [server.sockets[0].getsockname()[1] for server in (one, two)]
    config = (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{one: {{endpoints: ["127.0.0.1:{ports[0]}"]}}, '
        f'two: {{endpoints: ["127.0.0.1:{ports[1]}"], protocol: h2c}}}}\n'
        "routes:\n"
        "  - {name: two, match: {path_prefix: /h2}, service: two, retry: {attempts: 1}}\n"
        "  - {name: one, match: {path_prefix: /}, service: one, retry: {attempts: 1}}\n"
        "limits: {header_bytes: 8192, body: 1000000}\n"
        'grpc: {port: "127.0.0.1:0"}\n'  # where nothing but HTTP/2 is spoken
    )
    gateway = RunningGateway(Path(tmp_path_factory.mktemp("gateway")), config)
    try:
        await gateway.start()
        yield Ends(gateway, services)
        await eventually(lambda: gateway.in_flight(0))
    finally:
        await gateway.stop()
        one.close()
        two.close()


def rehearsed(case: ServerCase) -> list[Heard]:
    """What the client has heard after each piece."""
    wired = Wired2()
    client = wired.client()
    states = []
    for piece in case.sent:
        client.send(piece)
        states.append(heard(client.read()))
    client.lose()
    return states


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_client_hears_over_tcp_what_the_table_says(case: ServerCase, ends: Ends) -> None:
    states = rehearsed(case)
    await ends.leave()
    async with connected(ends.gateway) as client:
        for piece, state in zip(case.sent, states, strict=True):
            client.send(piece)
            await client.hears(state)
        if case.code == GOES_ON:
            assert client.log.resets == case.resets
            client.send(get(NEXT))
            await client.answered(NEXT)
            assert (client.log.status(NEXT), client.log.bodies[NEXT]) == (200, b"ok")
        else:
            await client.is_sent_away()
    assert [code for _, code in client.log.goaways] == ([] if case.code == GOES_ON else [case.code])
    assert {stream: client.log.status(stream) for stream in case.statuses} == case.statuses


def rehearsed_response(case: ResponseCase2) -> tuple[Heard, Heard]:
    """What the client has heard in the end, and what the service."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, case.asked)
    service = wired.service
    service.send(*case.sent)
    states = heard(client.read()), heard(service.log_from())
    client.lose()
    return states


@pytest.mark.parametrize("case", http2_responses.CASES, ids=str)
async def test_a_service_is_heard_over_tcp_as_the_table_says(
    case: ResponseCase2, ends: Ends
) -> None:
    told, to_service = rehearsed_response(case)
    await ends.leave()
    async with connected(ends.gateway) as client:
        client.send(HELLO, case.asked)
        service, stream = await ends.asked(1)
        assert stream == 1
        for piece in case.sent:
            service.transport.write(piece)
        await client.hears(told)
        await service.until(
            lambda: service.closed if case.is_the_last else heard(service.log) == to_service
        )
        assert heard(service.log) == to_service
        assert (client.log.status(1), service.log.resets) == (case.status, case.resets)
        client.send(get(3, b"/h2"))
        following, number = await ends.asked(1 if case.is_the_last else 3)
        following.transport.write(head(number, OK, ends=False) + data(number, b"next", ends=True))
        await client.answered(3)
        assert client.log.bodies[3] == b"next"
    assert [code for _, code in service.log.goaways] == (
        [] if case.code == GOES_ON else [case.code]
    )
