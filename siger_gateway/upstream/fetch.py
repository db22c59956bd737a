"""One question to a service on the gateway's own behalf: a GET, with the whole answer in memory.

It goes the way of proxied requests: the cluster picks the endpoint, the connection is the pool's,
and what comes of it counts for outlier detection and in the metrics of the service.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http1.headers import Headers
from siger_gateway.http1.message import Request, Response
from siger_gateway.upstream.cluster import Cluster, Endpoint

ATTEMPTS: Final = 3
"""Tries in all, as for proxied requests (``RetryConfig``): somebody else is waiting meanwhile."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. ``fields`` has the last of each name."""

    status: int
    headers: Headers
    fields: dict[bytes, bytes]
    body: bytes


async def fetch(
    cluster: Cluster, target: bytes, headers: Headers, timeout: float, most: int
) -> Fetched:
    """Asks an endpoint of ``cluster``; when it cannot be asked, another one.

    :param headers: of the request, without Host.
    :param timeout: seconds, for everything.
    :param most: bytes that the body of the answer may have.
    :raises GatewayError: with a reason of the upstream's, such as ``no_endpoints``.
    """
    request = Request(b"GET", target, headers, True)
    tried: tuple[Endpoint, ...] = ()
    stale = False
    attempt: _Attempt | None = None
    try:
        async with asyncio.timeout(timeout):
            for left in reversed(range(ATTEMPTS)):
                endpoint = cluster.pick(request, "", tried)
                if endpoint is None and tried and stale:  # only its old connection was dead
                    endpoint = tried[-1]
                if endpoint is None:
                    raise GatewayError("no_endpoints")
                attempt = _Attempt(cluster, endpoint, request, most)
                attempt.begin(trusted=not stale)
                try:
                    return await attempt.answer
                except GatewayError:
                    tried, stale = (*tried, endpoint), attempt.reused
                    another = stale or cluster.pick(request, "", tried) is not None
                    if not left or attempt.answered or not another:
                        raise
    except TimeoutError:
        cluster.stats.outcomes["response_timeout"] += 1
        if attempt is not None:
            attempt.judge(0)
        raise GatewayError("response_timeout") from None
    finally:
        if attempt is not None:
            attempt.end()
    raise AssertionError("the last attempt returns or raises")


class _Attempt:
    """One endpoint, asked once: the waiter for a connection, and the consumer of the response."""

    def __init__(self, cluster: Cluster, endpoint: Endpoint, request: Request, most: int) -> None:
        self.answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self.answered = False
        """The head of a response has come."""
        self.reused = False
        """The connection had been used before, which may be why the attempt failed."""
        self._cluster = cluster
        self._endpoint = endpoint
        self._request = request
        self._most = most
        self._body = b""
        self._started = perf_counter()
        self._connection: UpstreamConnection | None = None
        self._active = True
        endpoint.active += 1

    def begin(self, *, trusted: bool) -> None:
        """:param trusted: idle connections may be used; not after one that turned out dead."""
        connection = self._endpoint.pool.take() if trusted else None
        if connection is not None:
            self.on_connection(connection)
        elif not self._endpoint.pool.wait(self):
            self._fail("pending_overflow")

    def end(self) -> None:
        """Gives back whatever is still in use; may be called again."""
        if not self._active:
            return
        self._active = False
        self._endpoint.active -= 1
        self._endpoint.pool.give_up(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self.answer.cancel()

    def judge(self, status: int) -> None:
        """Tells those who watch the endpoint; 0: no response."""
        if self._cluster.observe is not None:
            self._cluster.observe(self._endpoint, status, perf_counter() - self._started)
        if self._cluster.outlier is not None:
            self._cluster.outlier.attempt_ended(self._endpoint, status)

    def on_connection(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self.reused = connection.reused
        host = self._cluster.host or self._endpoint.address.encode()
        headers = [(b"host", host), *self._request.headers]
        connection.begin(self, b"GET", self._request.target, headers, 0)

    def on_no_connection(self, reason: str, detail: str) -> None:
        self.judge(0)
        self._fail(reason)

    def on_informational(self, response: Response) -> None: ...

    def on_response(self, response: Response) -> None:
        self.answered = True
        self._cluster.stats.duration.observe(perf_counter() - self._started)
        self.on_response_data(response)

    def on_response_data(self, response: Response) -> None:
        self._body += response.take_body()
        if response.complete:
            self._connection = None  # it is back in the pool
        if len(self._body) > self._most:
            self.judge(0)
            self._fail("upstream_protocol")
        elif response.complete:
            status = response.status
            self._cluster.stats.outcomes[f"{status // 100}xx"] += 1
            self.judge(status)
            answer = Fetched(status, response.headers, response.fields, self._body)
            if not self.answer.done():
                self.answer.set_result(answer)

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        self._connection = None
        if not self.reused:
            self.judge(0)
        self._fail(reason)

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...

    def _fail(self, reason: str) -> None:
        self._cluster.stats.outcomes[reason] += 1
        if not self.answer.done():
            self.answer.set_exception(GatewayError(reason))
        self._release()

    def _release(self) -> None:
        """An attempt that has failed no longer counts."""
        if self._active:
            self._active = False
            self._endpoint.active -= 1
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.abort()
