"""One proxied exchange, from the parsed head to the account. Reads from top to bottom:

    select endpoint -> acquire connection -> send head -> relay body
                    -> relay response -> release -> account

Nothing here waits: every phase is a plain call, made by the one before or by an event of either
wire. Two rules decide about failures. Before the response head is out, an attempt that may be
repeated (see ``retry``) moves to another endpoint, and any other failure becomes a local reply.
Once the head is out, all that is left is to break the stream, so that a client cannot take half a
response for the whole.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.http.headers import HOP_BY_HOP, Headers, end_to_end
from siger_gateway.http.message import ProtocolError, Request, Response
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.attempts import Attempts
from siger_gateway.proxy.forwarded import (
    NOT_FORWARDED,
    VIA,
    forwarded_trailers,
    via_of,
    with_host,
)
from siger_gateway.proxy.reply import send_problem
from siger_gateway.proxy.request_body import RequestBody
from siger_gateway.proxy.route import ProxyRoute
from siger_gateway.proxy.tunnel import Tunnel
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.pool import AnyConnection

NOT_RETURNED: Final = HOP_BY_HOP | {b"x-request-id"}
"""Response fields that end here; the request id is the gateway's to say."""

NOT_IN_RESPONSE_TRAILERS: Final = (
    NOT_RETURNED | {b"content-length", b"set-cookie"} | {b"trailer", b"via"}
)
"""Trailer fields that would change what the head has said (RFC 9110 section 6.5.1)."""

SMALL_BODY: Final = 16 * 1024
"""Bytes up to which a body is awaited before an endpoint is selected, so that clients that are slow
to send one, perhaps on purpose, hold no connection to a service. nginx' client_body_buffer_size."""

NOT_IN_INFORMATIONAL: Final = NOT_RETURNED | {b"content-length", b"trailer"}
"""Fields about a body, which a 1xx response does not have (RFC 9110 section 8.6)."""

OUTCOMES: Final = {status: f"{status // 100}xx" for status in range(100, 600)}


class Exchange:
    """One request on its way to a service, and the response on its way back.

    :param cluster: the service that ``route`` leads to this time.
    :param target: what the service is asked for: the client's bytes, less the stripped prefix.
    :param forwarding: the header fields that the gateway adds for the service.
    :param started: ``time.perf_counter()`` when the head had been parsed.
    :param call: what the filters of the route have left; None: it has none.
    """

    __slots__ = (
        "_accounts",
        "_active",
        "_attempt_started",
        "_awaiting_body",
        "_body",
        "_call",
        "_client",
        "_cluster",
        "_connection",
        "_endpoint",
        "_forwarding",
        "_request",
        "_request_id",
        "_response_begun",
        "_retries",
        "_route",
        "_started",
        "_status",
        "_stream",
        "_target",
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
        call: Call | None,
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
        self._call = call
        self._attempt_started = started
        self._endpoint: Endpoint | None = None  # of the current or the last attempt
        self._active = False  # counted in endpoint.active
        self._connection: AnyConnection | None = None
        self._waiting = False  # for a connection
        self._awaiting_body = False  # before an endpoint is selected
        self._body: RequestBody | None = None
        if request.content_length != 0:
            self._body = RequestBody(request.method, refusable=cluster.speaks_http2)
        self._retries: Attempts | None = None  # once an attempt has failed
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
            else "backing off"
            if self._retries is not None and self._retries.backing_off
            else "acquiring connection"
        )
        return f"<Exchange {self._route.name} {self._endpoint!r} {phase}>"

    def start(self) -> None:
        request = self._request
        if not request.complete and 0 < (request.content_length or 0) <= SMALL_BODY:
            self._awaiting_body = True  # its end starts the exchange once more
            return
        self._route.waiting.add(self)
        endpoint = self._cluster.pick(request, self._client, ())
        if endpoint is not None:
            self._acquire_connection(endpoint)
        else:
            self._fail("no_endpoints", "")

    # Phase: acquire connection.

    def _acquire_connection(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._active = True
        endpoint.active += 1
        if self._route.trying is not None:
            self._route.trying.add(self)
        # After a connection that turned out dead, its idle neighbours are not trusted either.
        trusted = self._retries is None or not self._retries.stale
        connection = endpoint.pool.take() if trusted else None
        if connection is not None:
            self._send_head(connection)
            return
        self._waiting = True
        if not endpoint.pool.wait(self):
            self._waiting = False
            self._attempt_failed("pending_overflow", "too many are waiting for a connection")

    def on_connection(self, connection: AnyConnection) -> None:
        self._waiting = False
        self._send_head(connection)

    def on_no_connection(self, reason: str, detail: str) -> None:
        self._waiting = False
        self._attempt_failed(reason, detail)

    # Phase: send head.

    def _send_head(self, connection: AnyConnection) -> None:
        self._connection = connection
        request = self._request
        host = self._cluster.host
        edits = self._route.request_edits
        lines = b""
        if (
            request.lines is not None
            and edits is None
            and host is None
            and isinstance(connection, UpstreamConnection)
        ):
            lines = request.lines_without(NOT_FORWARDED)
            headers = self._forwarding.copy()
        else:
            headers = end_to_end(request.headers, request.fields, NOT_FORWARDED)
            headers += self._forwarding
            if host is not None and self._endpoint is not None:
                headers = with_host(headers, host or self._endpoint.address.encode())
            if edits is not None:
                headers = edits.apply(headers)
        if request.http2 and not isinstance(connection, UpstreamConnection):
            connection.in_turns = True
        upgrade = request.upgrade
        if upgrade is not None:
            headers += [(b"connection", b"upgrade"), (b"upgrade", upgrade)]
        length = request.content_length
        connection.begin(self, request.method, self._target, headers, length, upgrade, lines)
        body = self._body
        if body is not None:
            self._stream.resume_reading()  # first: what is sent now may pause it again
            body.send_held(connection)

    # Phase: relay body.

    def on_data(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if self._connection is not None:
            body.send(data, self._connection)
            if self._response_begun and self._route.streaming is not None:
                self._route.streaming.again(self)
        elif not self._response_begun:
            body.hold(data)
            if not self._awaiting_body:
                self._stream.pause_reading()

    def on_end(self, trailers: Headers) -> None:
        body = self._body
        assert body is not None
        if trailers:
            trailers = forwarded_trailers(trailers)
            if self._route.request_edits is not None:
                trailers = self._route.request_edits.without(trailers)
        body.end(trailers, self._connection)
        if self._awaiting_body:
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
            headers = end_to_end(response.headers, response.fields, NOT_IN_INFORMATIONAL)
            self._stream.send_informational(response.status, headers)

    def on_response(self, response: Response) -> None:
        status = response.status
        cluster = self._cluster
        elapsed = perf_counter() - self._attempt_started
        cluster.stats.outcomes[OUTCOMES[status]] += 1
        cluster.stats.duration.observe(elapsed)
        if cluster.observe is not None and self._endpoint is not None:
            cluster.observe(self._endpoint, status, elapsed)
        route = self._route
        if (
            status >= 400
            and status in route.retry.statuses
            and self._replace(response, str(status))
        ):
            return
        route.waiting.discard(self)
        if route.trying is not None:
            route.trying.discard(self)
        self._response_begun = True
        self._status = status
        if self._retries is not None:  # what follows, for hours perhaps, is no retry's load
            self._retries.release()
        if status == 101:
            self._switch_protocols(response)
            return
        call = self._call
        lines = b""
        if (
            response.lines is not None
            and not self._request.http2
            and route.response_edits is None
            and (call is None or call.only_adds)
        ):
            lines = response.lines_without(NOT_RETURNED)
            headers = [] if call is None else call.to_client.copy()
            sized = True
        else:
            headers = end_to_end(response.headers, response.fields, NOT_RETURNED)
            if route.response_edits is not None:
                headers = route.response_edits.apply(headers)
            if call is not None:
                headers = call.dress(headers)
            sized = b"content-length" in response.fields
        headers.append((b"x-request-id", self._request_id))
        headers.append(via_of(response.http10, response.http2))
        if response.complete:
            self._connection = None  # it is back in the pool and somebody else's
            if not self._request.complete:  # the rest of it is not awaited (RFC 9112 section 9.6)
                self._stream.close_after_response()
        elif route.streaming is not None:
            route.streaming.again(self)
        body = response.take_body()
        ends = response.complete and not response.trailers
        self._stream.send_head(status, headers, body, sized=sized, ends=ends, lines=lines)
        if response.complete:
            self._finish(response.trailers)

    def _replace(self, response: Response, cause: str) -> bool:
        """Whether another attempt is made instead of passing ``response`` on."""
        assert self._endpoint is not None
        begin = self._later_attempts().instead_of(self._endpoint, response, cause)
        if begin is None:
            return False
        if response.complete:
            self._connection = None
        self._judge(response.status)
        self._end_attempt()
        begin()
        return True

    def on_response_data(self, response: Response) -> None:
        streaming = self._route.streaming
        if response.complete:
            self._connection = None
            if streaming is not None:
                streaming.discard(self)
        elif streaming is not None:
            streaming.again(self)
        data = response.take_body()
        if data:
            self._stream.send_data(data)
        if response.complete:
            self._finish(response.trailers)

    def pause_response(self) -> None:
        if self._connection is not None:
            self._connection.pause_reading()
            if self._route.streaming is not None:  # the silence is not the service's
                self._route.streaming.discard(self)

    def resume_response(self) -> None:
        if self._connection is not None:
            self._connection.resume_reading()
            if self._response_begun and self._route.streaming is not None:
                self._route.streaming.again(self)

    def _switch_protocols(self, response: Response) -> None:
        """The service goes on in another protocol: from now on the exchange is a tunnel."""
        connection, self._connection = self._connection, None
        assert connection is not None
        headers = end_to_end(response.headers, response.fields, NOT_IN_INFORMATIONAL)
        headers += [(b"connection", b"upgrade"), (b"upgrade", response.fields[b"upgrade"])]
        headers += [(b"x-request-id", self._request_id), VIA]
        tunnel = Tunnel(self._route.streaming, self._tunnel_ended)
        tunnel.begin(
            self._stream.switch_protocols(headers, tunnel.client),
            connection.switch_protocols(response, tunnel.service),
        )

    def _tunnel_ended(self, tunnel: Tunnel, reason: str) -> None:
        self._release_endpoint()
        self._judge(0 if reason == "upstream_reset" else 101)
        self._stream.bytes_in, self._stream.bytes_out = tunnel.client.sent, tunnel.service.sent
        self._account(101, reason, "")

    # Phase: release. The connection has gone back to its pool by itself.

    def _finish(self, trailers: Headers) -> None:
        self._release_endpoint()
        if self._cluster.outlier is not None:
            self._judge(self._status)
        # Accounted first: ending the stream may start the client's next request.
        self._account(self._status, "", "")
        if trailers:
            trailers = [field for field in trailers if field[0] not in NOT_IN_RESPONSE_TRAILERS]
            if self._route.response_edits is not None:
                trailers = self._route.response_edits.without(trailers)
        self._stream.send_end(trailers)

    def _release_endpoint(self) -> None:
        if self._active and self._endpoint is not None:
            self._active = False
            self._endpoint.active -= 1
        if self._retries is not None:
            self._retries.release()

    def _abandon(self) -> None:
        """Gives up the exchange, whatever its phase."""
        self._route.waiting.discard(self)
        if self._retries is not None:
            self._retries.cancel()
        self._end_attempt()

    def _end_attempt(self) -> None:
        """Gives up the attempt, whatever its phase."""
        if self._route.trying is not None:
            self._route.trying.discard(self)
        if self._route.streaming is not None:
            self._route.streaming.discard(self)
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
            self._end_attempt()
            self._account(self._status, reason, detail)
            self._break_off(reason)
        else:
            self._attempt_failed(reason, detail, stale=connection is not None and connection.reused)

    def on_timeout(self, queue: TimeoutQueue) -> None:
        if self._response_begun:
            self._observe_failure()
            self._abandon()
            self._account(self._status, "stream_idle_timeout", "")
            self._break_off("stream_idle_timeout")
        elif queue is self._route.waiting:
            detail = "no connection was free" if self._waiting else "no response head"
            self._cluster.stats.outcomes["response_timeout"] += 1
            if self._connection is not None and self._request.complete:  # else a slow client
                self._observe_failure()
            self._abandon()
            self._fail("response_timeout", detail)
        else:
            reason = "connect_timeout" if self._waiting else "response_timeout"
            self._attempt_failed(reason, "per_try_timeout")

    def _break_off(self, reason: str) -> None:
        """The rest of the response is missing, which the client has to notice."""
        self._stream.abort()

    def _attempt_failed(self, reason: str, detail: str, *, stale: bool = False) -> None:
        """:param stale: its connection had been used before, which may be all there is to it."""
        self._cluster.stats.outcomes[reason] += 1
        slow_client = reason == "response_timeout" and not self._request.complete
        if reason != "pending_overflow" and not stale and not slow_client:
            self._observe_failure()
        self._end_attempt()
        retries = self._later_attempts()
        retries.stale = stale
        assert self._endpoint is not None
        retries.after_failure(self._endpoint, reason, detail)

    def _later_attempts(self) -> Attempts:
        if self._retries is None:
            self._retries = Attempts(
                self._route.retry,
                self._cluster,
                self._request,
                self._client,
                self._body,
                self._start_again,
                self._fail,
            )
        self._retries.stale = False
        return self._retries

    def _start_again(self, endpoint: Endpoint) -> None:
        self._attempt_started = perf_counter()
        self._acquire_connection(endpoint)

    def _observe_failure(self) -> None:
        """The endpoint is to blame for how the attempt ended."""
        cluster, endpoint = self._cluster, self._endpoint
        if endpoint is None:
            return
        if cluster.observe is not None:
            cluster.observe(endpoint, 0, perf_counter() - self._attempt_started)
        self._judge(0)

    def _judge(self, status: int) -> None:
        """The attempt ended with this response, complete or dropped; 0: with none, or a part."""
        outlier = self._cluster.outlier
        if outlier is not None and self._endpoint is not None:
            outlier.attempt_ended(self._endpoint, status)

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
        self._refuse(GatewayError(reason, shown), detail)

    def _refuse(self, error: GatewayError, detail: str) -> None:
        self._response_begun = True
        self._route.waiting.discard(self)
        self._account(error.status, error.reason, detail)
        send_problem(
            self._stream,
            error,
            request=self._request,
            request_id=self._request_id,
            dress=None if self._call is None else self._call.dress,
        )

    # Phase: account.

    def _account(self, status: int, reason: str, detail: str) -> None:
        if not reason and self._accounts.access_log is None:  # nothing to tell but figures
            if self._call is not None:
                self._call.end()
            elapsed = perf_counter() - self._started
            self._accounts.count(self._route.stats, self._request.method, status, elapsed)
            return
        self._accounts.close_exchange(
            self._request,
            self._stream,
            self._route.stats,
            self._call,
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
