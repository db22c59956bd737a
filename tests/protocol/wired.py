"""The gateway without sockets: the real wires, dispatcher, exchange and pool, on transports that
only remember what was written. What a fuzzer needs: some thousand cases a second.
"""

from __future__ import annotations

from itertools import pairwise

from siger_gateway.config.schema import EndpointSpec, MatchConfig, ServiceConfig
from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.dispatch import Dispatcher
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.proxy.route import ProxyRoute, Route
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.cluster import Cluster

NO_RETRY = RetryPolicy.of(1, ())

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Memory:
    """A transport that remembers: ``written``, and whether and how it was closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.written += data

    def abort(self) -> None:
        self.closing = self.aborted = True

    def close(self) -> None:
        self.closing = True

    def write_eof(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def set_protocol(self, protocol: object) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Wired:
    """A gateway with one service; needs a running loop, and does nothing with it.

    :param limits: of header and body, in bytes.
    """

    def __init__(self, header_bytes: int = 8192, body: int = 10_000) -> None:
        metrics = Metrics()
        config = ServiceConfig(endpoints=(EndpointSpec("127.0.0.1:1"),))
        cluster = Cluster("s", config, metrics.services["s"])
        (endpoint,) = cluster.endpoints
        self.pool = endpoint.pool
        route = ProxyRoute(
            "r", metrics.routes["r"], cluster, TimeoutQueue(30.0, 0.0), NO_RETRY, None
        )
        table: RouteTable[Route] = RouteTable([(MatchConfig(path_prefix="/"), route)])
        dispatcher = Dispatcher(table, Accounts(metrics, None), None)
        limits = ServerLimits(header_bytes, body, 10.0, 75.0, 100_000, 128)
        self.listener = Listener(dispatcher, limits)

    def client(self) -> tuple[DownstreamConnection, Memory]:
        """A new downstream connection."""
        connection = DownstreamConnection(self.listener)
        transport = Memory()
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport

    def service(self) -> tuple[UpstreamConnection, Memory]:
        """A new upstream connection, which the next exchange takes."""
        connection = UpstreamConnection(self.pool)
        transport = Memory()
        connection.connection_made(transport)  # type: ignore[arg-type]
        self.pool._open += 1
        self.pool.release(connection)
        return connection, transport

    def end(self, downstream: DownstreamConnection) -> None:
        """Both sides have gone."""
        downstream.connection_lost(None)
        for connection in list(self.pool._idle):
            connection.abort()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at ``cuts``, which are taken modulo its length."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[low:high] for low, high in pairwise(edges) if low < high]
