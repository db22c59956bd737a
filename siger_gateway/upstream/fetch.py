"""One question to a service on the gateway's own behalf: a GET, or a POST of what is small, with
the whole answer in memory.

It goes the way of proxied requests: the cluster picks the endpoint, the connection is the pool's,
and what comes of it counts for outlier detection, for the balancer and in the metrics of the
service, as ``proxy/exchange.py`` counts it.

A question is put again only where nobody has had work with it: once on a fresh connection when the
first had died in the pool, and once to another endpoint when one takes no connection. What a
service breaks off is not repeated: there is no budget here as ``proxy/retry.py`` has one, and who
asks for many would multiply the load of a service that is failing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request, Response
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.pool import AnyConnection

NOT_CONNECTED: Final = frozenset(
    {"connect_refused", "connect_timeout", "connect_failed", "tls_certificate", "tls_failed"}
    | {"pending_overflow"}
)
"""Reasons that say that the endpoint has not seen a byte of the question."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. ``fields`` has the last of each name, in the head.

    What is in it may be secret, a cookie for example, so logs see the status alone.
    """

    status: int
    headers: Headers = field(repr=False)
    fields: dict[bytes, bytes] = field(repr=False)
    body: bytes = field(repr=False)
    trailers: Headers = field(repr=False, default_factory=list)


async def fetch(
    cluster: Cluster,
    target: bytes,
    headers: Headers,
    timeout: float,
    most: int,
    content: bytes | None = None,
    endpoint: Endpoint | None = None,
) -> Fetched:
    """Asks an endpoint of ``cluster``.

    :param headers: of the request, without Host and without any that speak of a body.
    :param timeout: seconds, for everything.
    :param most: bytes that the body of the answer may have.
    :param content: what is posted, a few KiB at most; None: the question is a GET.
    :param endpoint: the only one that is asked, for what belongs together with earlier answers;
        None: the cluster picks.
    :raises GatewayError: ``no_endpoints``, ``response_timeout``, ``upstream_reset``,
        ``upstream_protocol`` (also for a body that is too large) or one of ``NOT_CONNECTED``.
    """
    method = b"GET" if content is None else b"POST"
    request = Request(method, target, headers, True)
    first = endpoint or cluster.pick(request, "", ())
    if first is None:
        raise GatewayError("no_endpoints")
    attempt = _Attempt(cluster, first, request, most, content)
    again = _Again(cluster, request, endpoint)
    try:
        async with asyncio.timeout(timeout):
            attempt.begin(first.pool.take())
            while True:
                try:
                    return await attempt.answer
                except GatewayError as error:
                    another = again.after(attempt, error.reason)
                    if another is None:
                        raise
                    cluster.stats.retries[error.reason] += 1
                    # After a connection that was dead, its idle neighbours are not trusted either.
                    idle = None if again.stale_seen else another.pool.take()
                    attempt = _Attempt(cluster, another, request, most, content)
                    attempt.begin(idle)
    except TimeoutError:
        attempt.time_out()
        raise GatewayError("response_timeout") from None
    finally:
        attempt.end()


class _Again:
    """Whether and where a question is put again; see the top of this file."""

    __slots__ = ("_cluster", "_only", "_request", "_tried", "_unconnected_seen", "stale_seen")

    def __init__(self, cluster: Cluster, request: Request, only: Endpoint | None) -> None:
        self._cluster = cluster
        self._request = request
        self._only = only
        self._tried: tuple[Endpoint, ...] = ()
        self._unconnected_seen = False
        self.stale_seen = False

    def after(self, failed: _Attempt, reason: str) -> Endpoint | None:
        """The endpoint for another attempt, or None."""
        self._tried = (*self._tried, failed.endpoint)
        if failed.stale and not self.stale_seen:
            self.stale_seen = True  # the endpoint itself may be well
            if self._only is not None:
                return self._only
            return self._cluster.pick(self._request, "", self._tried) or failed.endpoint
        if reason in NOT_CONNECTED and not self._unconnected_seen and self._only is None:
            self._unconnected_seen = True
            return self._cluster.pick(self._request, "", self._tried)
        return None


class _Attempt:
    """One endpoint, asked once: the waiter for a connection, and the consumer of the response."""

    __slots__ = (
        "_active",
        "_body",
        "_cluster",
        "_connection",
        "_content",
        "_heard",
        "_most",
        "_request",
        "_size",
        "_started",
        "_used_before",
        "_waiting",
        "answer",
        "endpoint",
        "stale",
    )

    def __init__(
        self,
        cluster: Cluster,
        endpoint: Endpoint,
        request: Request,
        most: int,
        content: bytes | None,
    ) -> None:
        self.answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self.endpoint = endpoint
        self.stale = False
        """It failed because the connection had died in the pool, by all appearances."""
        self._cluster = cluster
        self._request = request
        self._most = most
        self._content = content
        self._body: list[bytes] = []
        self._size = 0
        self._started = perf_counter()
        self._connection: AnyConnection | None = None
        self._used_before = False  # the connection, by another exchange
        self._heard = False  # something of a response
        self._waiting = False  # for a connection
        self._active = True
        endpoint.active += 1

    def begin(self, idle: AnyConnection | None) -> None:
        """:param idle: a connection of the pool; None: waits for one, or opens it."""
        if idle is not None:
            self.on_connection(idle)
        elif self.endpoint.pool.wait(self):
            self._waiting = True
        else:
            self._fail("pending_overflow")

    def end(self) -> None:
        """Gives up whatever is still in use. May be called again."""
        self.answer.cancel()
        if not self._active:
            return
        self._active = False
        self.endpoint.active -= 1
        if self._waiting:
            self._waiting = False
            self.endpoint.pool.give_up(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def time_out(self) -> None:
        """There is no time left."""
        if self._connection is not None:  # else the queue was ours, and the endpoint not asked
            self._blame()
        self._fail("response_timeout")

    # Of the pool.

    def on_connection(self, connection: AnyConnection) -> None:
        self._waiting = False
        self._connection = connection
        self._used_before = connection.reused
        host = self._cluster.host or self.endpoint.address.encode()
        headers = [(b"host", host), *self._request.headers]
        content = self._content
        if content is None:
            connection.begin(self, b"GET", self._request.target, headers, 0)
            return
        connection.begin(self, b"POST", self._request.target, headers, None)
        connection.write_data(content)
        if self._connection is connection:  # it has not broken at that
            connection.write_end([])

    def on_no_connection(self, reason: str, detail: str) -> None:
        self._waiting = False
        self._blame()
        self._fail(reason)

    # Of the connection.

    def on_informational(self, response: Response) -> None:
        self._heard = True

    def on_response(self, response: Response) -> None:
        self._heard = True
        status = response.status
        elapsed = perf_counter() - self._started
        stats = self._cluster.stats
        stats.outcomes[f"{status // 100}xx"] += 1
        stats.duration.observe(elapsed)
        if self._cluster.observe is not None:
            self._cluster.observe(self.endpoint, status, elapsed)
        self.on_response_data(response)

    def on_response_data(self, response: Response) -> None:
        if response.complete:
            self._connection = None  # it is back in the pool and somebody else's
        data = response.take_body()
        self._size += len(data)
        if self._size > self._most:
            self._judge(response.status)  # it has answered: that this is too much is our own view
            self._fail("upstream_protocol", f"The answer has more than {self._most} bytes.")
            return
        self._body.append(data)
        if response.complete:
            self._judge(response.status)
            body = b"".join(self._body)
            if not self.answer.done():
                self.answer.set_result(
                    Fetched(
                        response.status,
                        response.headers,
                        response.fields,
                        body,
                        response.trailers,
                    )
                )
            self.end()

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        self._connection = None
        self.stale = reason == "upstream_reset" and self._used_before and not self._heard
        if not self.stale:
            self._blame()
        self._fail(reason)

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...

    def _fail(self, reason: str, detail: str | None = None) -> None:
        if not self._active:
            return
        self._cluster.stats.outcomes[reason] += 1
        if not self.answer.done():
            self.answer.set_exception(GatewayError(reason, detail))
        self.end()

    def _blame(self) -> None:
        """The endpoint is to blame for how this ends."""
        if self._cluster.observe is not None:
            self._cluster.observe(self.endpoint, 0, perf_counter() - self._started)
        self._judge(0)

    def _judge(self, status: int) -> None:
        """It ended with this response, complete or dropped; 0: with none, or a part."""
        if self._cluster.outlier is not None:
            self._cluster.outlier.attempt_ended(self.endpoint, status)
