"""``wired`` for HTTP/2: the real wires, dispatcher, exchange and pools, on memory transports.

Paths that begin with ``/h2`` lead to a service that speaks HTTP/2, all others to one of HTTP/1.1.
That one answers by the path, whenever ``pump`` is called:

    /wait...    never            /big     1,000,000 bytes        /early     before the body came
    /none       204              /chunks  in chunks, trailers    others     200, ``ok``
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from siger_gateway.config.schema import EndpointSpec, MatchConfig, PoolConfig, ServiceConfig
from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.message import Request
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http1.request_parser import RequestParser
from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.http2.client import ClientConnection
from siger_gateway.http2.connection import Connection
from siger_gateway.http2.run_queue import run_queue
from siger_gateway.http2.server import ServerConnection
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.dispatch import Dispatcher
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.proxy.route import ProxyRoute, Route
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.cluster import Cluster
from siger_gateway.upstream.dial import Dialer
from siger_gateway.upstream.pool import Pool
from siger_gateway.upstream.stream_pool import StreamPool
from tests.eager import make_tasks_eager
from tests.protocol.http2_peer import SETTINGS_ACK, Log, settings

P = TypeVar("P", bound=asyncio.Protocol)

beside_http1 = False
"""Whether HTTP/1.1 is spoken, too, so that all that HTTP/2 has read waits for its turn."""

BIG = bytes(range(250)) * 4000


class Memory:
    """A transport that remembers, as one on a socket behaves: no write after ``write_eof``."""

    def __init__(self, high: int = 1 << 60) -> None:
        self.written = bytearray()
        self.size = 0
        self.closing = False
        self.aborted = False
        self.half_closed = False
        self.reading = True
        self.high = high
        """Bytes that nobody has read at which the protocol is told to pause."""
        self.protocol: object = None
        self.full = False

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.half_closed:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.closing:
            return
        self.written += data
        if len(self.written) > self.high and not self.full:
            self.full = True
            self.protocol.pause_writing()  # type: ignore[attr-defined]

    def take(self) -> bytes:
        """What was written, as the peer reads it; a turn of the loop has passed."""
        if isinstance(self.protocol, Connection):
            self.protocol.flush()
        data = bytes(self.written)
        self.written.clear()
        if self.full:
            self.full = False
            self.protocol.resume_writing()  # type: ignore[attr-defined]
        return data

    def abort(self) -> None:
        self.closing = self.aborted = True

    def close(self) -> None:
        self.closing = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def is_closing(self) -> bool:
        return self.closing

    @property
    def ended(self) -> bool:
        """Whether the peer sees an end of the connection."""
        return self.closing or self.half_closed

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class MemoryDialer(Dialer):
    """Every connection is there at once."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 1, None)
        self.made: list[tuple[UpstreamConnection, Memory, RequestParser]] = []

    async def dial(self, factory: Callable[[], P]) -> P:
        connection = factory()
        assert isinstance(connection, UpstreamConnection)
        transport = Memory()
        transport.protocol = connection
        connection.connection_made(transport)  # type: ignore[arg-type]
        self.made.append((connection, transport, RequestParser(1 << 20, 1 << 30, 1 << 20)))
        return connection


class Http2Service:
    """The other end of one of the gateway's connections."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.transport = Memory()
        self.transport.protocol = self.connection
        self.log = Log()
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.log_from(24)

    def log_from(self, skip: int = 0) -> Log:
        self.log.read(self.transport.take()[skip:])
        return self.log

    def send(self, *pieces: bytes) -> Log:
        for piece in pieces:
            if not self.transport.closing:
                self.connection.data_received(piece)
        run_queue().settle()
        return self.log_from()


class Http2Dialer(Dialer):
    """The same, of HTTP/2.

    :param opening: what a service says first.
    """

    def __init__(self, opening: bytes = settings() + SETTINGS_ACK) -> None:
        super().__init__("127.0.0.1", 1, None)
        self.opening = opening
        self.made: list[Http2Service] = []

    async def dial(self, factory: Callable[[], P]) -> P:
        connection = factory()
        assert isinstance(connection, ClientConnection)
        self.made.append(Http2Service(connection))
        self.made[-1].send(self.opening)
        return connection


class Wired2:
    """A gateway with two services; needs a running loop.

    :param attempts: of an exchange.
    """

    def __init__(
        self,
        header_bytes: int = 8192,
        body: int = 1_000_000,
        attempts: int = 1,
        endpoints: int = 1,
        pool: PoolConfig | None = None,
    ) -> None:
        self.metrics = Metrics()
        config = pool or PoolConfig()
        addresses = tuple(EndpointSpec(f"127.0.0.1:{port}") for port in range(1, 1 + endpoints))
        one = Cluster(
            "one",
            ServiceConfig(endpoints=(EndpointSpec("127.0.0.1:1"),)),
            self.metrics.services["one"],
        )
        two = Cluster(
            "two",
            ServiceConfig(endpoints=addresses, protocol="h2c"),
            self.metrics.services["two"],
        )
        run_queue().yields = beside_http1
        make_tasks_eager(asyncio.get_running_loop())
        self.one = MemoryDialer()
        one.endpoints[0].pool = Pool(self.one, config)
        self.dialers = [Http2Dialer() for _ in two.endpoints]
        self.pools = [StreamPool(dialer, config) for dialer in self.dialers]
        for endpoint, made in zip(two.endpoints, self.pools, strict=True):
            endpoint.pool = made
        self.cluster = two
        retry = RetryPolicy.of(attempts, ("connect", "reset") if attempts > 1 else ())
        self.waiting = TimeoutQueue(30.0, 0.0)

        def route(name: str, cluster: Cluster) -> ProxyRoute:
            return ProxyRoute(name, self.metrics.routes[name], cluster, self.waiting, retry, None)

        table: RouteTable[Route] = RouteTable(
            [
                (MatchConfig(path_prefix="/h2"), route("two", two)),
                (MatchConfig(path_prefix="/"), route("one", one)),
            ]
        )
        self.dispatcher = Dispatcher(table, Accounts(self.metrics, None), None)
        limits = ServerLimits(header_bytes, body, 10.0, 75.0, 100_000, 128)
        self.listener = Listener(self.dispatcher, limits)
        self.listener.now = 1000.0
        self.seen: list[Request] = []
        """Requests that the service of HTTP/1.1 has got whole."""

    @property
    def dialer(self) -> Http2Dialer:
        return self.dialers[0]

    @property
    def two(self) -> StreamPool:
        return self.pools[0]

    @property
    def service(self) -> Http2Service:
        """The other end of the last connection to the service that speaks HTTP/2."""
        return self.dialer.made[-1]

    def client(self, high: int = 1 << 60) -> Client2:
        return Client2(self, ServerConnection(self.listener), high)

    def client1(self) -> tuple[DownstreamConnection, Memory]:
        """A client that speaks HTTP/1.1."""
        connection = DownstreamConnection(self.listener)
        transport = Memory()
        transport.protocol = connection
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport

    def pump(self) -> None:
        """The service of HTTP/1.1 answers what it has got."""
        for connection, transport, parser in self.one.made:
            if connection.closed:
                continue
            parser.receive(transport.take())
            assert parser.error is None, parser.error
            if parser.started:
                request = parser.started[0]
                if request.complete or request.path == b"/early":
                    assert len(parser.started) == 1, "more than one request at a time"
                    parser.started.clear()
                    self.seen.append(request)
                    answer = answer_of(request)
                    if answer:
                        connection.data_received(answer)
        run_queue().settle()

    def check(self, now: float) -> None:
        """A second has passed, or more."""
        self.listener.check(now)

    @property
    def closed(self) -> dict[str, int]:
        return dict(self.listener.closed)


def answer_of(request: Request) -> bytes:
    """What the service of HTTP/1.1 says."""
    path = request.path
    if path.startswith(b"/wait"):
        return b""
    if path == b"/none":
        return b"HTTP/1.1 204 \r\n\r\n"
    if path == b"/chunks":
        chunks = b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    body = BIG if path == b"/big" else b"ok"
    if request.method == b"HEAD":
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Client2:
    """A client and its connection."""

    def __init__(self, wired: Wired2, connection: ServerConnection, high: int) -> None:
        self.wired = wired
        self.connection = connection
        self.transport = Memory(high)
        self.transport.protocol = connection
        self.log = Log()
        connection.connection_made(self.transport)  # type: ignore[arg-type]

    def send(self, *pieces: bytes) -> Log:
        """Sends each piece, after which the services answer; reads what comes."""
        for piece in pieces:
            self.feed(piece)
            self.wired.pump()
        return self.read()

    def feed(self, data: bytes) -> None:
        if not self.transport.closing:
            self.connection.data_received(data)
            run_queue().settle()

    def read(self) -> Log:
        self.log.read(self.transport.take())
        return self.log

    def lose(self) -> None:
        """The connection has gone; every exchange has been accounted."""
        self.connection.connection_lost(None)
        assert self.wired.metrics.in_flight == 0
        for queue in (self.wired.waiting,):
            assert not len(queue)
