"""Active health checks: every endpoint is asked, again and again, how it is.

One task per endpoint of the table, started and cancelled by ``follow``: no check goes, or goes on,
to an endpoint that has left. Each check opens a connection of its own, so it finds out whether the
endpoint takes new ones, and takes none of the pool's.

An endpoint counts as healthy until its first check, so that a gateway serves as soon as it starts.
That check is made at once and decides alone (HAProxy does the same): a new endpoint that is not
ready gets no more than a moment's traffic. After it, ``Verdict`` asks for several in a row.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from siger_gateway.config.schema import HealthCheckConfig
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Response
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http2.client import ClientConnection
from siger_gateway.http2.client_stream import ClientStream
from siger_gateway.upstream.pool import Pool
from siger_gateway.upstream.stream_pool import StreamPool

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

JITTER: Final = 0.1
"""Share of the interval by which checks vary: gateways that start together drift apart."""

USER_AGENT: Final = b"siger-health-check"

HEALTH_CHECK: Final = b"/grpc.health.v1.Health/Check"
SERVING: Final = b"\0\0\0\0\2\x08\1"
"""The message HealthCheckResponse with its field 1, ``status``, 1, as gRPC frames it."""
MAX_ANSWER: Final = 1024
"""Bytes of an answer that are looked at."""

log = logging.getLogger(__name__)


class Verdict:
    """What the checks of one endpoint amount to. Pure: it is told, and tells."""

    __slots__ = ("_config", "_row", "_unchecked", "healthy")

    def __init__(self, config: HealthCheckConfig) -> None:
        self._config = config
        self._row = 0  # checks in a row that contradict ``healthy``
        self._unchecked = True
        self.healthy = True

    def take(self, *, passed: bool) -> bool:
        """Counts one check; whether ``healthy`` is another now."""
        first, self._unchecked = self._unchecked, False
        if passed == self.healthy:
            self._row = 0
            return False
        self._row += 1
        needed = self._config.healthy if passed else self._config.unhealthy
        if self._row < needed and not first:
            return False
        self.healthy = passed
        self._row = 0
        return True


class HealthChecker:
    """The checks of one cluster.

    :param service: its name, for the log.
    :param changed: called when ``healthy`` of an endpoint has become another.
    """

    def __init__(
        self, service: str, config: HealthCheckConfig, changed: Callable[[], None]
    ) -> None:
        self._service = service
        self._config = config
        self._changed = changed
        self._tasks: dict[Endpoint, asyncio.Task[None]] = {}

    def follow(self, endpoints: Iterable[Endpoint]) -> None:
        """Makes ``endpoints`` the ones that are checked."""
        gone = self._tasks
        self._tasks = {}
        for endpoint in endpoints:
            task = gone.pop(endpoint, None)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._watch(endpoint))
            self._tasks[endpoint] = task
        for task in gone.values():
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self.follow(())
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, endpoint: Endpoint) -> None:
        verdict = Verdict(self._config)
        while True:
            failure = await check(endpoint.pool, self._config)
            if verdict.take(passed=failure is None):
                self._tell(endpoint, failure)
            jitter = random.uniform(1 - JITTER, 1 + JITTER)
            await asyncio.sleep(self._config.interval * jitter)

    def _tell(self, endpoint: Endpoint, failure: str | None) -> None:
        endpoint.healthy = failure is None
        fields = {"service": self._service, "endpoint": endpoint.address}
        if failure is None:
            log.info("endpoint healthy", extra={"fields": fields})
        else:
            log.warning("endpoint unhealthy", extra={"fields": {**fields, "error": failure}})
        self._changed()


async def check(pool: Pool | StreamPool, config: HealthCheckConfig) -> str | None:
    """Asks the endpoint of ``pool`` once; None when it is well, else why it is not.

    Well means a complete 2xx answer (``http``), an open connection (``tcp``) or the answer SERVING
    (``grpc``), within the timeout.
    """
    probe = _Probe()
    connection: UpstreamConnection | ClientConnection | None = None
    try:
        async with asyncio.timeout(config.timeout):
            connection = await _connect(pool, probe)
            if config.type == "tcp":
                return None
            if connection.closed:
                return "closed at once"
            asked = (
                connection
                if isinstance(connection, UpstreamConnection)
                else ClientStream(connection)
            )
            headers: Headers = [
                (b"host", (config.host or pool.dialer.address).encode()),
                (b"user-agent", USER_AGENT),
            ]
            if config.type == "grpc":
                headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
                asked.begin(probe, b"POST", HEALTH_CHECK, headers, None)
                asked.write_data(health_request(config.service))
                asked.write_end([])
                return await probe.outcome or probe.why_not_serving()
            headers += [(b"accept", b"*/*"), (b"connection", b"close")]
            asked.begin(probe, b"GET", config.path.encode(), headers, 0)
            return await probe.outcome
    except TimeoutError:
        return "no connection in time" if connection is None else "no complete answer in time"
    except OSError as error:
        return str(error)
    finally:
        if connection is not None:
            connection.abort()


def health_request(service: str) -> bytes:
    """HealthCheckRequest with its field 1, ``service``, as gRPC frames it: too little of Protocol
    Buffers to need the library."""
    name = service.encode()
    message = b"\x0a%c%b" % (len(name), name) if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


async def _connect(pool: Pool | StreamPool, probe: _Probe) -> UpstreamConnection | ClientConnection:
    if isinstance(pool, Pool):
        return await pool.dialer.dial(lambda: UpstreamConnection(probe))
    now = asyncio.get_running_loop().time()
    return await pool.dialer.dial(lambda: ClientConnection(probe, now))


class _Probe:
    """Owner and consumer of the one connection of one check."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._body = b""
        self._trailers: Headers = []

    def _end(self, failure: str | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(failure)

    def on_response(self, response: Response) -> None:
        self.on_response_data(response)

    def on_response_data(self, response: Response) -> None:
        # Of an endless one nothing more is kept; it runs out of time.
        self._body = (self._body + response.take_body())[:MAX_ANSWER]
        if response.complete:
            self._trailers = response.trailers or response.headers
            ok = 200 <= response.status <= 299
            self._end(None if ok else f"status {response.status}")

    def why_not_serving(self) -> str | None:
        """What is wrong with a complete answer of ``grpc.health.v1``; None: nothing."""
        status = dict(self._trailers).get(b"grpc-status", b"")
        if status != b"0":
            return f"grpc-status {status.decode('latin-1') or 'missing'}"
        return None if self._body == SERVING else "not serving"

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        self._end(f"{reason}: {detail}")

    def on_informational(self, response: Response) -> None: ...

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...

    def release(self, connection: UpstreamConnection) -> None: ...

    def on_room(self, connection: ClientConnection) -> None: ...

    def on_leaving(self, connection: ClientConnection) -> None: ...

    def forget(self, connection: UpstreamConnection | ClientConnection) -> None: ...
