"""One exchange of a client that speaks HTTP/2: its ``http.stream.DownstreamStream``."""

from __future__ import annotations

import asyncio
from sys import maxsize
from typing import TYPE_CHECKING, Any, Final

from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, HandedOver
from siger_gateway.http2.faults import (
    CANCEL,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    StreamFault,
    code_name,
)
from siger_gateway.http2.messages import CONNECTION_FIELDS, check_fields
from siger_gateway.http2.stream import Stream
from siger_gateway.http2.tunnel import StreamTransport

if TYPE_CHECKING:
    from siger_gateway.http2.server import ServerConnection

LEAST_PROGRESS: Final = 4096
"""Bytes of a response that waits which a client has to take in ``idle_timeout``: one that opens its
window byte by byte could hold a stream, and what waits in it, for days."""

PATIENT: Final = 1.0
"""Seconds without progress after which a client that gives a stream up is no attacker: of streams
that have to last so long there can be no more than ``server.MAX_STREAMS`` a second. Envoy's
premature_reset_min_stream_lifetime_seconds."""

_STATUS: Final = {status: (b":status", b"%d" % status) for status in range(100, 600)}
_OF_101: Final = CONNECTION_FIELDS | {b"sec-websocket-accept"}
"""Fields of HTTP/1.1's answer to a WebSocket that HTTP/2's does not have (RFC 8441 section 5)."""


class ServerStream(Stream):
    """One exchange; its ``http.stream.DownstreamStream``."""

    __slots__ = (
        "_behind",
        "_body_limit",
        "_carries_messages",
        "_consumer",
        "_declared",
        "_ended",
        "_head_ends",
        "_held",
        "_is_limited",
        "_last_progress",
        "_paused",
        "_seen_in",
        "_sent",
        "_server",
        "_tunnel",
        "bytes_in",
        "bytes_out",
        "head_sent",
        "peer",
        "request",
        "scheme",
    )

    def __init__(self, server: ServerConnection, stream_id: int, request: Request) -> None:
        super().__init__(server, stream_id)
        self._server = server
        self.peer = server.peer
        self.scheme = server.scheme
        self.request = request
        self._consumer: Consumer | None = None
        self._ended = request.content_length == 0  # its end has been handed on, or there is none
        self._held = False
        self._paused = False
        self._tunnel: StreamTransport | None = None
        self._head_ends = False  # the head has been the end, too
        self._body_limit = server.owner.limits.body
        self._is_limited = False  # by the route
        self._carries_messages = False
        self._behind = 0  # bytes that a body should have brought by now, but has not
        self._seen_in = 0  # bytes_in at the last look
        self._sent = 0  # bytes of what waits, since there was progress
        self._declared = -1 if request.content_length is None else request.content_length
        self._last_progress = server.now
        self.bytes_in = 0
        self.bytes_out = 0
        self.head_sent = False

    def __repr__(self) -> str:
        state = "responding" if self.head_sent else "waiting"
        return f"<ServerStream {self.id} {state} {self.request!r}>"

    # What comes.

    def begin(self, consumer: Consumer) -> None:
        """``consumer`` answers; the body follows."""
        self._consumer = consumer
        consumer.start()
        request = self.request
        if (
            self._consumer is consumer
            and not self._ended
            and not self._held
            and b"expect" in request.fields
            and request.fields[b"expect"].lower() == b"100-continue"
        ):
            self.send_informational(100, [])

    def on_headers(self, headers: Headers, *, ends: bool) -> None:
        """Trailers (RFC 9113 section 8.1)."""
        if self.request.complete:
            raise StreamFault(self.id, STREAM_CLOSED, "HEADERS behind the end of the stream")
        try:
            if not ends:
                raise ProtocolError("bad_request", "Trailers have to end the stream.")
            check_fields(headers)
        except ProtocolError as error:
            self._refuse_body(error)
            return
        self.request.trailers = headers
        self._finish_body(b"")

    def on_data(self, data: bytes, size: int, *, ends: bool) -> None:
        request = self.request
        if request.upgrade is not None:
            self._on_tunnelled(data, size, ends=ends)
            return
        if request.complete:
            raise StreamFault(self.id, STREAM_CLOSED, "DATA behind the end of the stream")
        self._last_progress = self._server.now
        self.taken += size
        if data:
            self.bytes_in += len(data)
            if self.bytes_in > self._declared >= 0:
                self._refuse_body(_LONGER)
                return
        if ends:
            self._finish_body(data)
        elif not self._held:
            self._hand_on(data)
        elif data:
            request.append(data)

    def _on_tunnelled(self, data: bytes, size: int, *, ends: bool) -> None:
        """After an extended CONNECT, which may not have been answered yet."""
        self.taken += size
        self._last_progress = self._server.now
        if self._tunnel is not None:
            self._tunnel.on_data(data, ends=ends)
        elif ends:
            raise StreamFault(self.id, CANCEL, "the end, before there was an answer")
        else:  # one window at most
            self.request.append(data)

    def _finish_body(self, last: bytes) -> None:
        if self.bytes_in < self._declared:
            self._refuse_body(_SHORTER)
            return
        self.request.complete = True
        if not self._held:
            self._hand_on(last)
        elif last:
            self.request.append(last)

    def _hand_on(self, data: bytes) -> None:
        consumer, request = self._consumer, self.request
        if consumer is None or self._ended:
            return
        if data:
            if self.bytes_in > self._body_limit:
                self._ended = True
                limit = self._body_limit
                error = ProtocolError("body_too_large", f"The limit is {limit} bytes.")
                consumer.on_request_error(error)
                return
            consumer.on_data(data)
            if self._consumer is not consumer:  # answered meanwhile
                return
        if request.complete:
            self._ended = True
            consumer.on_end(request.trailers)
        elif not self._paused:
            self.credit()

    def _refuse_body(self, error: ProtocolError) -> None:
        """The rest of the body is malformed, and not looked at."""
        consumer, server = self._consumer, self._server
        if consumer is not None and not self._ended:
            self._ended = True
            consumer.on_request_error(error)
        if server.streams.get(self.id) is self:  # it has not been reset for that
            server.reset(self.id, PROTOCOL_ERROR)
        server.spend_reset()

    def has_waited(self) -> bool:
        return self._server.now - self._last_progress >= PATIENT

    def on_reset(self, code: int) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.on_downstream_closed()
        elif self._tunnel is not None:
            self._tunnel.lose(ConnectionResetError(code_name(code)))

    def on_lost(self, detail: str) -> None:
        self.on_reset(CANCEL)

    # What goes.

    def send_informational(self, status: int, headers: Headers) -> None:
        server = self._server
        head = [(b":status", b"%d" % status), *headers]
        server.write(server.headers_frames(self.id, head, False))

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
        assert not lines, "lines are HTTP/1.1's"
        self.head_sent = True
        if status == 204 or status == 304 or self.request.method == b"HEAD":
            body = b""
            if status == 204:  # RFC 9110 section 8.6: it has none
                headers = [field for field in headers if field[0] != b"content-length"]
        self._head_ends = ends and not body
        server = self._server
        head = [_STATUS[status], *headers]
        server.write(server.headers_frames(self.id, head, self._head_ends))
        if body:
            self.send_data(body)

    def send_data(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._last_progress = self._server.now
        self.put_data(data)

    def send_end(self, trailers: Headers) -> None:
        self._consumer = None
        if self._head_ends:
            self.on_sent()
        else:
            self.put_end(trailers)

    def on_sent(self) -> None:
        if self._tunnel is not None:
            self._tunnel.on_sent()
        elif self.request.upgrade is not None:
            self._server.forget_reset(self.id, NO_ERROR)
        elif self.request.complete:
            self._server.forget(self.id)
        else:  # the rest of its body is not awaited (RFC 9113 section 8.1)
            self._server.forget_reset(self.id, NO_ERROR)

    def on_wait(self) -> None:
        self._last_progress = self._server.now
        if self._consumer is not None:
            self._consumer.pause_response()
        elif self._tunnel is not None:
            self._tunnel.on_wait()

    def on_room(self) -> None:
        if self._consumer is not None:
            self._consumer.resume_response()
        elif self._tunnel is not None:
            self._tunnel.on_room()

    def take_turn(self) -> bool:
        before = self.send_window
        more = super().take_turn()
        self._sent += before - self.send_window
        if self._sent >= LEAST_PROGRESS:
            self._sent = 0
            self._last_progress = self._server.now
        return more

    def abort(self) -> None:
        self._consumer = None
        if self._server.streams.get(self.id) is self:
            self._server.forget_reset(self.id, INTERNAL_ERROR)

    def switch_protocols(self, headers: Headers, protocol: asyncio.BaseProtocol) -> HandedOver:
        """Answers an extended CONNECT; ``headers`` are those of a 101."""
        self.head_sent = True
        self._consumer = None
        kept = [field for field in headers if field[0] not in _OF_101]
        head = [(b":status", b"200"), *kept]
        self._server.write(self._server.headers_frames(self.id, head, False))
        tunnel = self._tunnel = StreamTransport(self, protocol)
        return HandedOver(tunnel, self.request.take_body(), _nothing)

    # What the consumer wants.

    def hold(self) -> None:
        self._held = True

    def hand_over(self, consumer: Consumer) -> None:
        self._held = False
        self.begin(consumer)
        if not self._ended and self._consumer is consumer:
            self._hand_on(self.request.take_body())

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._last_progress = self._server.now
            if not self.request.complete:
                self.credit()

    def limit_body(self, limit: int) -> None:
        self._body_limit = limit
        self._is_limited = True

    def carry_messages(self) -> None:
        self._carries_messages = True
        if not self._is_limited:
            self._body_limit = maxsize

    def close_after_response(self) -> None:
        """Nothing: only HTTP/1.1 needs the connection's end to be rid of a request."""

    def client_certificate(self) -> dict[str, Any] | None:
        ssl_object = self._server.transport.get_extra_info("ssl_object")
        return None if ssl_object is None else ssl_object.getpeercert() or None

    def check(self, now: float, limits: ServerLimits) -> None:
        """Gives up what has stood still, or crept, for too long."""
        stands = now - self._last_progress > limits.idle_timeout
        if self.is_waiting:  # its windows are shut, or the socket
            if stands:
                self._server.owner.closed["client_stalled"] += 1
                self._server.reset(self.id, CANCEL)
        elif (
            not (self._ended or self._paused or self._held or self._carries_messages)
            and self._consumer is not None
            and (self._body_lags(limits) or stands)
        ):
            self._ended = True
            error = ProtocolError("request_timeout", "The request body took too long.")
            self._consumer.on_request_error(error)

    def _body_lags(self, limits: ServerLimits) -> bool:
        """Looks, once a second, at a body under way, as ``http1.server`` does."""
        came = self.bytes_in - self._seen_in
        self._seen_in = self.bytes_in
        self._behind = max(0, self._behind + limits.body_rate - came)
        return self._behind > limits.body_rate * limits.idle_timeout


def _nothing(error: Exception | None) -> None:
    """A stream that is over is not counted any more."""


_LONGER: Final = ProtocolError("bad_request", "The body is longer than its Content-Length.")
_SHORTER: Final = ProtocolError("bad_request", "The body is shorter than its Content-Length.")
