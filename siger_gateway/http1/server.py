"""The downstream side of HTTP/1.1: one accepted connection.

A connection has at most one exchange at a time; requests that a client pipelines wait, parsed, in
``RequestParser.started``, and reading is paused meanwhile, so what waits is bounded by one read.
Responses therefore leave in the order of their requests (RFC 9112 section 9.3.2).
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, Final, cast

from siger_gateway.http.connection import Acceptor, ServerLimits
from siger_gateway.http.headers import STATUS_LINES, Headers, encode_head
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, HandedOver, reset_when_closed
from siger_gateway.http1.request_parser import SPEAKS_HTTP2, RequestParser

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER: Final = 3.0
"""Seconds in which the rest of a refused request is read and dropped, so that the reply is not
lost to a TCP reset (RFC 9112 section 9.6); nginx' lingering_timeout is 5 s."""
WRITE_HIGH_WATER: Final = 256 * 1024
"""Bytes waiting for a slow client at which its exchange is paused: one read of uvloop."""


class DownstreamConnection(asyncio.Protocol):
    """One accepted connection; also the ``DownstreamStream`` of its current exchange."""

    __slots__ = (
        "_behind",
        "_body_limit",
        "_chunked",
        "_consumer",
        "_ended",
        "_held",
        "_keep_alive",
        "_last_read",
        "_lingering",
        "_listener",
        "_parser",
        "_queue_paused",
        "_reading_paused",
        "_request",
        "_seen_in",
        "_stalled_since",
        "_starting",
        "_transport",
        "bytes_in",
        "bytes_out",
        "head_sent",
        "head_since",
        "peer",
        "scheme",
    )

    def __init__(self, listener: Acceptor) -> None:
        limits = listener.limits
        self._listener = listener
        self._parser = RequestParser(limits.header_bytes, limits.body, limits.header_count)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self._request: Request | None = None
        self._consumer: Consumer | None = None
        self._ended = True  # the end of the request's body has been handed on
        self._keep_alive = True
        self._chunked = False
        self._reading_paused = False  # by the consumer
        self._held = False  # by the consumer, which has yet to find out who answers
        self._queue_paused = False  # until all parsed requests have been started
        self._starting = False
        self._lingering = False
        self._last_read = listener.now
        self._stalled_since = 0.0
        self._body_limit = limits.body
        self._behind = 0  # bytes that a body should have brought by now, but has not
        self._seen_in = 0  # bytes_in at the last look
        self.head_since = 0.0
        self.head_sent = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.peer = ""
        self.scheme = b"http"

    def __repr__(self) -> str:
        if self._lingering:
            state = "lingering"
        elif self._request is not None:
            state = f"{'responding' if self.head_sent else 'waiting'} {self._request!r}"
        else:
            state = "reading head" if self._parser.in_head else "idle"
        return f"<DownstreamConnection {self.peer} {state}>"

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self.peer = peername[0].removeprefix("::ffff:")  # IPv4 on a dual-stack socket
        if transport.get_extra_info("ssl_object") is not None:
            self.scheme = b"https"
        self._listener.add(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._last_read = self._listener.now
        parser = self._parser
        parser.receive(data)
        if self._request is None:
            self._start_waiting()
        elif self._held:  # one read of what comes next is enough to keep
            self.pause_reading()
        elif not self._ended:
            self._hand_on_body(self._request)
        if (parser.started or parser.held) and not self._lingering:
            self._queue_paused = True
            self._transport.pause_reading()
        if parser.in_head and not self.head_since:
            self.head_since = self._listener.now

    def eof_received(self) -> bool:
        """A client that closes its side has gone, as nginx and Envoy take it."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.remove(self)
        self._lingering = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.on_downstream_closed()

    def pause_writing(self) -> None:
        self._stalled_since = self._listener.now
        if self._consumer is not None:
            self._consumer.pause_response()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if self._consumer is not None:
            self._consumer.resume_response()
        elif self._request is None:
            self._start_waiting()

    # From one request to the next.

    def _start_waiting(self) -> None:
        """Starts the next parsed request, and more as long as they are answered at once."""
        if self._starting:  # an answer inside ``start`` below: the loop there goes on
            return
        self._starting = True
        parser = self._parser
        while parser.started and self._request is None and self._keep_alive:
            if self._stalled_since or self._lingering:  # the last response is not read yet
                break
            request = parser.started.pop(0)
            if self._queue_paused:
                self._resume_queue()
            self._begin(request)
            consumer = self._consumer = self._listener.handler.dispatch(request, self)
            consumer.start()
            self._begin_body_of(request)
        self._starting = False
        if self._request is None and parser.error is not None and not self._lingering:
            self._refuse(parser.error)

    def _resume_queue(self) -> None:
        """Reads on, once nothing that has been read waits for its turn."""
        if not (self._parser.started or self._parser.held):
            self._queue_paused = False
            self._transport.resume_reading()

    def _begin(self, request: Request) -> None:
        self._request = request
        self._ended = request.content_length == 0
        self._keep_alive = request.keep_alive
        self._chunked = False
        self.head_sent = False
        self.head_since = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        if not self._ended:
            self._behind = self._seen_in = 0
            self._body_limit = self._listener.limits.body

    def _begin_body_of(self, request: Request) -> None:
        """Its consumer has started: unless it has refused the request, now the body may come. The
        gateway itself says so to a client that wants to know (RFC 9110 section 10.1.1)."""
        if self._request is not request or self._ended or self._held:
            return
        expectation = request.fields.get(b"expect")
        if expectation is not None and not request.has_body_waiting and not request.http10:
            self._transport.write(CONTINUE)
        self._hand_on_body(request)

    def _hand_on_body(self, request: Request) -> None:
        consumer = self._consumer
        assert consumer is not None
        data = request.take_body()
        if data:
            self.bytes_in += len(data)
            limit = self._body_limit
            if self.bytes_in > limit:  # only a chunked body gets here
                self._ended = True
                error = ProtocolError("body_too_large", f"The limit is {limit} bytes.")
                consumer.on_request_error(error)
                return
            consumer.on_data(data)
        if self._request is not request:  # answered meanwhile
            return
        if request.complete:
            self._ended = True
            consumer.on_end(request.trailers)
        elif self._parser.error is not None:
            self._ended = True
            consumer.on_request_error(self._parser.error)

    def _refuse(self, error: ProtocolError) -> None:
        """Answers something that was no request; there is no way to find the next one."""
        if error is SPEAKS_HTTP2:
            self._lingering = True
            self._listener.go_on_in_http2(self, self._transport, self._parser.early)
            return
        request = Request(b"", b"", [], False)
        request.complete = True
        self._begin(request)
        self._listener.handler.reject(error, self)

    # The stream's side.

    def send_informational(self, status: int, headers: Headers) -> None:
        if self._request is not None and not self._request.http10:
            self._transport.write(encode_head(STATUS_LINES[status], headers))

    def send_head(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        *,
        sized: bool,
        ends: bool = False,
        lines: bytes = b"",
    ) -> None:
        request = self._request
        assert request is not None
        self.head_sent = True
        if status == 204 or status == 304 or request.method == b"HEAD":
            body = b""
            if status == 204:  # RFC 9110 section 8.6: it has none
                headers = [field for field in headers if field[0] != b"content-length"]
        elif not sized:
            if request.http10:
                self._keep_alive = False
            else:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
        if not self._keep_alive or self._listener.draining:
            self._keep_alive = False
            headers.append((b"connection", b"close"))
        elif request.http10:
            headers.append((b"connection", b"keep-alive"))
        head = encode_head(STATUS_LINES[status], headers, lines)
        if body:
            self.bytes_out += len(body)
            if self._chunked:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            self._transport.write(head + body)
        else:
            self._transport.write(head)

    def send_data(self, data: bytes) -> None:
        self.bytes_out += len(data)
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)

    def send_end(self, trailers: Headers) -> None:
        if self._chunked:
            self._transport.write(encode_head(b"0", trailers) if trailers else b"0\r\n\r\n")
        request = self._request
        assert request is not None
        self._request = None
        self._consumer = None
        if not self._keep_alive:
            if request.complete and self._parser.error is None and request.method:
                self._transport.close()
            else:
                self._linger()
        elif not request.complete:
            # The body that is still coming would be read for nothing, perhaps gigabytes of it.
            self._linger()
        else:
            if request.upgrade is not None:
                self._stay()
            self.resume_reading()
            if self._parser.started or self._parser.error is not None:
                self._start_waiting()

    def _stay(self) -> None:
        """The client goes on in HTTP/1.1."""
        self._parser.decline_upgrade()
        if self._queue_paused:
            self._resume_queue()
        if self._parser.in_head:
            self.head_since = self._listener.now

    def switch_protocols(self, headers: Headers, protocol: asyncio.BaseProtocol) -> HandedOver:
        self.head_sent = True
        self._consumer = None
        self._transport.write(encode_head(STATUS_LINES[101], headers))
        self._transport.set_protocol(protocol)
        self._stalled_since = 0.0  # from now on the tunnel's to mind
        early, self._parser.held = self._parser.held or b"", None
        return HandedOver(self._transport, early, self.connection_lost)

    def _linger(self) -> None:
        self._lingering = True
        self._last_read = self._listener.now
        self._stalled_since = 0.0
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._transport.write_eof()

    def abort(self) -> None:
        if self.head_sent and self._request is not None and self._request.http10:
            # Without chunks, an orderly end of the connection would be the end of the body.
            reset_when_closed(self._transport)
        self._consumer = None
        self._request = None
        self._lingering = True
        self._transport.abort()

    def hold(self) -> None:
        self._held = True  # reading goes on, or a client that leaves would not be noticed

    def hand_over(self, consumer: Consumer) -> None:
        request = self._request
        assert request is not None
        self._held = False
        self._consumer = consumer
        self.resume_reading()
        consumer.start()
        self._begin_body_of(request)

    def client_certificate(self) -> dict[str, Any] | None:
        ssl_object = self._transport.get_extra_info("ssl_object")
        return None if ssl_object is None else ssl_object.getpeercert() or None

    def carry_messages(self) -> None:
        """Nothing: there is no gRPC over HTTP/1.1."""

    def limit_body(self, limit: int) -> None:
        self._body_limit = limit

    def close_after_response(self) -> None:
        self._keep_alive = False

    def pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._last_read = self._listener.now
            if not self._queue_paused:
                self._transport.resume_reading()

    # The listener's side.

    def take_bodies_up_to(self, limit: int) -> None:
        """From the next request on, ``limit`` bytes of a body are taken."""
        self._parser.body_limit = limit

    def check(self, now: float, limits: ServerLimits) -> None:
        """Closes the connection when it has overstayed; ``now`` as the listener's clock has it."""
        if self._lingering:
            if now - self._last_read > LINGER:
                self._transport.abort()
        elif self._stalled_since:
            self._last_read = now  # nobody is idle during an exchange
            if now - self._stalled_since > limits.idle_timeout:
                self._listener.closed["client_stalled"] += 1
                self._transport.abort()
        elif self._request is None:
            if self.head_since:
                if now - self.head_since > limits.header_timeout:
                    self._refuse(ProtocolError("request_timeout", "The head took too long."))
            elif now - self._last_read > limits.idle_timeout:
                if self._transport.is_closing():  # what is left of a response is not read
                    self._listener.closed["client_stalled"] += 1
                    self._transport.abort()
                else:
                    self._listener.closed["idle_timeout"] += 1
                    self._transport.close()
        elif self._ended:
            self._last_read = now
        elif (
            not self._reading_paused
            and not self._held
            and self._consumer is not None
            and (self._body_lags(limits) or now - self._last_read > limits.idle_timeout)
        ):
            self._ended = True
            error = ProtocolError("request_timeout", "The request body took too long.")
            self._consumer.on_request_error(error)

    def _body_lags(self, limits: ServerLimits) -> bool:
        """Looks, once a second, at a body under way. Each of many slow ones would hold a connection
        to a service, and for hours."""
        came = self.bytes_in - self._seen_in
        self._seen_in = self.bytes_in
        self._behind = max(0, self._behind + limits.body_rate - came)
        return self._behind > limits.body_rate * limits.idle_timeout

    def drain(self) -> None:
        """Nothing yet: the next response says that it is the last one."""

    def close_if_idle(self, idle_since: float) -> None:
        """For a drain: closes a connection on which nothing came after ``idle_since``."""
        if self._request is None and not self._parser.in_head and self._last_read <= idle_since:
            self._transport.close()

    @property
    def at_rest_since(self) -> float:
        """Since when there is neither an exchange nor a whole head; "infinity" while there is."""
        if self._request is not None or self._lingering or self._stalled_since:
            return inf
        return self.head_since or self._last_read

    def close_if_at_rest(self, before: float) -> bool:
        """For the listener: makes room if still at rest; a head that is slow to come is too."""
        if self.at_rest_since > before or self._transport.is_closing():
            return False
        self._transport.close()
        return True

    def cut(self) -> None:
        """For the end of a drain: closes at once; an exchange is told, so that it is accounted."""
        consumer = self._consumer
        self.abort()
        if consumer is not None:
            consumer.on_downstream_closed()

    def refuse_connection(self) -> None:
        """For the listener: one connection too many."""
        self._refuse(ProtocolError("too_many_connections", "Too many connections."))

    def refuse_plain(self) -> None:
        """For the listener: the client does not speak TLS."""
        self._refuse(ProtocolError("https_required", "Use https: to talk to this port."))
