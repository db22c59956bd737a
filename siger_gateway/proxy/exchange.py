"""One proxied exchange, from the parsed head to the account. Reads from top to bottom:

    select endpoint -> acquire connection -> send head -> relay body
                    -> relay response -> release -> account

Nothing here waits: every phase is a plain call, made by the one before or by an event of either
wire. Two rules decide about failures. Before the response head is out, an attempt that sent
nothing (or whose request may be repeated) moves to another endpoint, and any other failure
becomes a local reply. Once the head is out, all that is left is to break the stream, so that a
client cannot take half a response for the whole.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http1.headers import HOP_BY_HOP, Headers, end_to_end
from siger_gateway.http1.message import ProtocolError, Request, Response
from siger_gateway.http1.reply import send_problem
from siger_gateway.http1.stream import DownstreamStream
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.forwarded import NOT_FORWARDED, NOT_IN_TRAILERS, VIA
from siger_gateway.proxy.retry import MAX_ATTEMPTS, may_retry
from siger_gateway.proxy.route import ProxyRoute
from siger_gateway.upstream.cluster import Cluster, Endpoint

NOT_RETURNED: Final = HOP_BY_HOP | {b"x-request-id"}
"""Response fields that end here; the request id is the gateway's to say."""

NOT_IN_RESPONSE_TRAILERS: Final = NOT_RETURNED | {b"content-length", b"set-cookie", b"via"}
"""Trailer fields that would change what the head has said (RFC 9110 section 6.5.1)."""

SMALL_BODY: Final = 16 * 1024
"""Bytes up to which a body is awaited before an endpoint is selected, so that clients that are slow
to send one, perhaps on purpose, hold no connection to a service. nginx' client_body_buffer_size."""

OUTCOMES: Final = {status: f"{status // 100}xx" for status in range(100, 600)}


class Exchange:
    """One request on its way to a service, and the response on its way back.

    :param cluster: the service that ``route`` leads to this time.
    :param target: what the service is asked for: the client's bytes, less the stripped prefix.
    :param forwarding: the header fields that the gateway adds for the service.
    :param started: ``time.perf_counter()`` when the head had been parsed.
    """

    __slots__ = (
        "_accounts",
        "_active",
        "_attempt_started",
        "_attempts",
        "_awaiting_body",
        "_body",
        "_client",
        "_cluster",
        "_connection",
        "_endpoint",
        "_forwarding",
        "_request",
        "_request_id",
        "_response_begun",
        "_reused",
        "_route",
        "_started",
        "_status",
        "_stream",
        "_target",
        "_trailers",
        "_tried",
        "_waiting",
    )

    def __init__(
        self,
        route: ProxyRoute,
        cluster: Cluster,
        request: Request,
        stream: DownstreamStream,
        target: bytes,
        forwarding: Headers,
        *,
        accounts: Accounts,
        request_id: bytes,
        client: str,
        started: float,
    ) -> None:
        self._route = route
        self._cluster = cluster
        self._request = request
        self._stream = stream
        self._target = target
        self._forwarding = forwarding
        self._accounts = accounts
        self._request_id = request_id
        self._client = client
        self._started = started
        self._attempt_started = started
        self._attempts = 0
        self._tried: tuple[Endpoint, ...] = ()
        self._endpoint: Endpoint | None = None  # of the current or the last attempt
        self._active = False  # counted in endpoint.active
        self._connection: UpstreamConnection | None = None
        self._reused = False  # the last attempt failed on a connection used before
        self._waiting = False  # for a connection
        self._awaiting_body = False  # before an endpoint is selected
        self._body: list[bytes] | None = None  # what arrived before there was a connection
        self._trailers: Headers | None = None  # of the request, once its body is complete
        self._response_begun = False
        self._status = 0

    def __repr__(self) -> str:
        phase = (
            "relaying response"
            if self._response_begun
            else "awaiting body"
            if self._awaiting_body
            else "awaiting response"
            if self._connection is not None
            else "acquiring connection"
        )
        return f"<Exchange {self._route.name} {self._endpoint!r} {phase}>"

    def start(self) -> None:
        request = self._request
        if not request.complete and 0 < (request.content_length or 0) <= SMALL_BODY:
            self._awaiting_body = True  # its end starts the exchange once more
            return
        endpoint = self._cluster.pick(())
        if endpoint is not None:
            self._acquire_connection(endpoint)
        else:
            self._fail("no_endpoints", "")

    # Phase: select endpoint, after a failed attempt on the last one.

    def _select_another(self, failed: Endpoint) -> Endpoint | None:
        self._tried = (*self._tried, failed)
        endpoint = self._cluster.pick(self._tried)
        if endpoint is None and self._reused:
            return failed  # only its old connection was dead
        return endpoint

    # Phase: acquire connection. The timeout runs from here to the response head.

    def _acquire_connection(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._active = True
        endpoint.active += 1
        self._attempts += 1
        self._route.waiting.add(self)
        # After a connection that turned out dead, its idle neighbours are not trusted either.
        connection = None if self._reused else endpoint.pool.take()
        if connection is not None:
            self._send_head(connection)
        elif endpoint.pool.wait(self):
            self._waiting = True
        else:
            self._attempt_failed("pending_overflow", "too many are waiting for a connection")

    def on_connection(self, connection: UpstreamConnection) -> None:
        if self._waiting:
            self._waiting = False
            self._send_head(connection)
        else:  # it took too long
            connection.release()

    def on_no_connection(self, reason: str, detail: str) -> None:
        if self._waiting:
            self._waiting = False
            self._attempt_failed(reason, detail)

    # Phase: send head.

    def _send_head(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        request = self._request
        headers = end_to_end(request.headers, request.fields, NOT_FORWARDED)
        headers += self._forwarding
        connection.begin(self, request.method, self._target, headers, request.content_length)
        if request.content_length != 0:
            self._send_waiting_body(connection)

    # Phase: relay body.

    def _send_waiting_body(self, connection: UpstreamConnection) -> None:
        for data in self._body or ():
            connection.write_data(data)
        self._body = None
        if self._trailers is not None:
            connection.write_end(self._trailers)
        else:
            self._stream.resume_reading()

    def on_data(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.write_data(data)
        elif not self._response_begun:
            self._body = [*(self._body or ()), data]
            if not self._awaiting_body:
                self._stream.pause_reading()

    def on_end(self, trailers: Headers) -> None:
        if trailers:
            trailers = [field for field in trailers if field[0] not in NOT_IN_TRAILERS]
        self._trailers = trailers
        if self._connection is not None:
            self._connection.write_end(trailers)
        elif self._awaiting_body:
            self._awaiting_body = False
            self._attempt_started = perf_counter()
            self.start()

    def pause_request(self) -> None:
        self._stream.pause_reading()

    def resume_request(self) -> None:
        self._stream.resume_reading()

    # Phase: relay response.

    def on_informational(self, response: Response) -> None:
        if response.status != 100:  # the gateway has said that itself, if it was asked
            headers = end_to_end(response.headers, response.fields, NOT_RETURNED)
            self._stream.send_informational(response.status, headers)

    def on_response(self, response: Response) -> None:
        route = self._route
        route.waiting.discard(self)
        self._response_begun = True
        self._status = status = response.status
        cluster = self._cluster
        elapsed = perf_counter() - self._attempt_started
        cluster.stats.outcomes[OUTCOMES[status]] += 1
        cluster.stats.duration.observe(elapsed)
        if cluster.observe is not None and self._endpoint is not None:
            cluster.observe(self._endpoint, status, elapsed)
        fields = response.fields
        headers = end_to_end(response.headers, fields, NOT_RETURNED)
        headers.append((b"x-request-id", self._request_id))
        headers.append(VIA)
        if response.complete:
            self._connection = None  # it is back in the pool and somebody else's
        sized = b"content-length" in fields
        self._stream.send_head(status, headers, response.take_body(), sized=sized)
        if response.complete:
            self._finish(response.trailers)

    def on_response_data(self, response: Response) -> None:
        if response.complete:
            self._connection = None
        data = response.take_body()
        if data:
            self._stream.send_data(data)
        if response.complete:
            self._finish(response.trailers)

    def pause_response(self) -> None:
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_response(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()

    # Phase: release. The connection has gone back to its pool by itself.

    def _finish(self, trailers: Headers) -> None:
        self._release_endpoint()
        # Accounted first: ending the stream may start the client's next request.
        self._account(self._status, "", "")
        if trailers:
            trailers = [field for field in trailers if field[0] not in NOT_IN_RESPONSE_TRAILERS]
        self._stream.send_end(trailers)

    def _release_endpoint(self) -> None:
        if self._active and self._endpoint is not None:
            self._active = False
            self._endpoint.active -= 1

    def _abandon(self) -> None:
        """Gives up the attempt, whatever its phase."""
        self._route.waiting.discard(self)
        if self._waiting and self._endpoint is not None:
            self._waiting = False
            self._endpoint.pool.give_up(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._release_endpoint()

    # Failures.

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        connection, self._connection = self._connection, None
        if self._response_begun:
            self._observe_failure()
            self._release_endpoint()
            self._account(self._status, reason, detail)
            self._stream.abort()
        else:
            self._reused = connection is not None and connection.reused
            self._attempt_failed(reason, detail)

    def on_timeout(self) -> None:
        detail = "no connection was free" if self._waiting else "no response head"
        self._cluster.stats.outcomes["response_timeout"] += 1
        if not self._waiting:
            self._observe_failure()
        self._abandon()
        self._fail("response_timeout", detail)

    def _attempt_failed(self, reason: str, detail: str) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        statistics = self._cluster.stats
        statistics.outcomes[reason] += 1
        if reason != "pending_overflow" and not self._reused:
            self._observe_failure()
        self._abandon()
        if self._attempts < MAX_ATTEMPTS and may_retry(self._request, reason, reused=self._reused):
            another = self._select_another(endpoint)
            if another is not None:
                statistics.retries[reason] += 1
                self._attempt_started = perf_counter()
                self._acquire_connection(another)
                return
        self._fail(reason, detail)

    def _observe_failure(self) -> None:
        """The endpoint is to blame for how the attempt ended."""
        if self._cluster.observe is not None and self._endpoint is not None:
            elapsed = perf_counter() - self._attempt_started
            self._cluster.observe(self._endpoint, 0, elapsed)

    def on_request_error(self, error: ProtocolError) -> None:
        self._abandon()
        if self._response_begun:
            self._account(self._status, error.reason, error.detail)
            self._stream.abort()
        else:
            self._fail(error.reason, error.detail, shown=error.detail)

    def on_downstream_closed(self) -> None:
        self._abandon()
        self._account(self._status or 499, "downstream_closed", "")

    def _fail(self, reason: str, detail: str, shown: str | None = None) -> None:
        """A local reply, for no response head has been sent. ``detail`` is for the log only."""
        self._response_begun = True
        error = GatewayError(reason, shown)
        self._account(error.status, reason, detail)
        send_problem(self._stream, error, request=self._request, request_id=self._request_id)

    # Phase: account.

    def _account(self, status: int, reason: str, detail: str) -> None:
        if not reason and self._accounts.access_log is None:  # nothing to tell but figures
            elapsed = perf_counter() - self._started
            self._accounts.count(self._route.stats, self._request.method, status, elapsed)
            return
        self._accounts.close_exchange(
            self._request,
            self._stream,
            self._route.stats,
            started=self._started,
            status=status,
            reason=reason,
            detail=detail,
            route=self._route.name,
            service=self._cluster.name,
            endpoint=self._endpoint.address if self._endpoint is not None else "",
            request_id=self._request_id,
            client=self._client,
        )
