"""The downstream side of HTTP/2: one accepted connection, and a stream for each of its exchanges.

A stream is to its exchange what a whole connection is in HTTP/1.1 (``http.stream``), so everything
above is told the same things in the same order. What is malformed is answered 400 and reset, which
tells a person more than the reset alone that RFC 9113 section 8.1.1 asks for.

The connection ends like this: GOAWAY says that no more streams are taken, with an id that lets all
through that may be on their way; a round trip later, another one says which was the last; when
that has been answered, the connection closes (section 6.8).
"""

from __future__ import annotations

import asyncio
from math import inf
from sys import maxsize
from typing import Any, Final, cast

from siger_gateway.http.connection import Acceptor, ServerLimits
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, HandedOver
from siger_gateway.http2 import frames
from siger_gateway.http2.connection import (
    STREAM_WINDOW,
    WRITE_HIGH_WATER,
    Connection,
    Stream,
)
from siger_gateway.http2.faults import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    ConnectionFault,
    HeaderListTooLarge,
    StreamFault,
    code_name,
)
from siger_gateway.http2.frames import LARGEST_WINDOW, PREFACE
from siger_gateway.http2.messages import CONNECTION_FIELDS, check_fields, request_of
from siger_gateway.http2.tunnel import StreamTransport

MAX_STREAMS: Final = 128
"""Exchanges at a time of one connection: nginx's default; RFC 9113 section 6.5.2 wants 100."""
FIELD_OVERHEAD: Final = 32
"""Bytes that a field counts beside its name and value (RFC 9113 section 6.5.2)."""
LINGER: Final = 3.0
"""Seconds in which what a refused client still sends is read and dropped, or a reset would take the
GOAWAY from it; as in HTTP/1.1."""
PATIENCE: Final = 1.0
"""Seconds that a client gets to answer the PING behind a first GOAWAY."""
LEAST_PROGRESS: Final = 4096
"""Bytes of a response that waits which a client has to take in ``idle_timeout``: one that opens its
window byte by byte could hold a stream, and what waits in it, for days."""

_DRAIN_PING: Final = b"sigerend"
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
        "request",
    )

    def __init__(self, server: ServerConnection, stream_id: int, request: Request) -> None:
        super().__init__(server, stream_id)
        self._server = server
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

    @property
    def peer(self) -> str:
        return self._server.peer

    @property
    def scheme(self) -> bytes:
        return self._server.scheme

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
            and request.fields.get(b"expect", b"").lower() == b"100-continue"
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
        self._finish_body()

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
            request.append(data)
        if ends:
            self._finish_body()
        elif not self._held:
            self._hand_on()

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

    def _finish_body(self) -> None:
        if self.bytes_in < self._declared:
            self._refuse_body(_SHORTER)
            return
        self.request.complete = True
        if not self._held:
            self._hand_on()

    def _hand_on(self) -> None:
        consumer, request = self._consumer, self.request
        if consumer is None or self._ended:
            request.take_body()
            return
        data = request.take_body()
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
        head = [(b":status", b"%d" % status), *headers]
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
            self._hand_on()

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


class ServerConnection(Connection):
    """One accepted connection."""

    preface = PREFACE

    def __init__(self, owner: Acceptor) -> None:
        limits = owner.limits
        listed = limits.header_bytes + FIELD_OVERHEAD * limits.header_count
        super().__init__(owner.now, limits.header_bytes, listed, limits.header_count, 1.0)
        self.owner = owner
        self.peer = ""
        self.scheme = b"http"
        self._last = 0  # stream that has been opened
        self._refused_above = LARGEST_WINDOW  # what the last GOAWAY said
        self._last_read = owner.now
        self._began = owner.now
        self._block_since = 0.0
        self._stalled_since = 0.0
        self._draining_since = 0.0

    def __repr__(self) -> str:
        return f"<ServerConnection {self.peer} streams={len(self.streams)}>"

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self.peer = peername[0].removeprefix("::ffff:")  # IPv4 on a dual-stack socket
        if transport.get_extra_info("ssl_object") is not None:
            self.scheme = b"https"
        self.write(
            frames.settings_frame(
                [
                    (frames.MAX_CONCURRENT_STREAMS, MAX_STREAMS),
                    (frames.MAX_HEADER_LIST_SIZE, self._list_limit),
                    (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
                    (frames.ENABLE_CONNECT_PROTOCOL, 1),
                ]
            )
            + frames.window_update(0, self.first_credit())
        )
        self.owner.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.ending:
            self._last_read = self.now = self.owner.now
            super().data_received(data)

    def eof_received(self) -> bool:
        """A client that closes its side has gone, as in HTTP/1.1."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.remove(self)
        self.ending = True
        self._lose_streams()

    def _lose_streams(self) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self.turns.clear()
        for stream in streams:
            stream.on_lost("")

    def pause_writing(self) -> None:
        self._stalled_since = self.owner.now
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        super().resume_writing()

    # Streams.

    @property
    def last_stream_id(self) -> int:
        return self._last

    def _on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        self._block_since = 0.0
        headers: Headers | None
        try:
            headers = self._decoder.decode(block, self._list_limit, self._count_limit)
        except HeaderListTooLarge:
            headers = None
        stream = self.streams.get(stream_id)
        if stream is not None:
            if headers is None:
                raise StreamFault(stream_id, ENHANCE_YOUR_CALM, "trailers that are too large")
            stream.on_headers(headers, ends=ends)
        elif stream_id > self._last and stream_id & 1:
            self._open(stream_id, headers, ends)
        elif stream_id in self._reset:
            self._spend_noise()  # they crossed
        elif stream_id & 1:
            raise ConnectionFault(STREAM_CLOSED, "HEADERS for a stream that is over")
        else:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS for a stream of a wrong number")

    def _open(self, stream_id: int, headers: Headers | None, ends: bool) -> None:
        if stream_id > self._refused_above:  # it did not know of the GOAWAY, and will repeat this
            self._spend_noise()
            self.drop_what_comes(stream_id)
            return
        self._last = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self.forget_reset(stream_id, REFUSED_STREAM)
            self.spend_reset()
            return
        if headers is None:
            limit = self.owner.limits.header_bytes
            self._refuse(
                stream_id, ProtocolError("headers_too_large", f"The limit is {limit} bytes.")
            )
            return
        try:
            request = request_of(headers, ends=ends)
            length = request.content_length
            if length is not None and length > self.owner.limits.body:
                limit = self.owner.limits.body
                raise ProtocolError("body_too_large", f"The limit is {limit} bytes.")
        except ProtocolError as error:
            self._refuse(stream_id, error)
            return
        stream = ServerStream(self, stream_id, request)
        self.streams[stream_id] = stream
        stream.begin(self.owner.handler.dispatch(request, stream))

    def _refuse(self, stream_id: int, error: ProtocolError) -> None:
        """Answers what was no request, and resets its stream."""
        request = Request(b"", b"", [], True)
        request.http2 = True
        request.complete = False  # so that it is reset
        stream = ServerStream(self, stream_id, request)
        self.streams[stream_id] = stream
        self.owner.handler.reject(error, stream)
        self.spend_reset()

    def _check_opened(self, stream_id: int) -> None:
        if not stream_id & 1 or self._last < stream_id <= self._refused_above:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame for a stream that is not open")

    def on_stream_over(self) -> None:
        self._last_read = self.owner.now  # idle from now on
        if self._draining_since and not self.streams:
            self._close_if_drained()

    def on_block_begun(self) -> None:
        self._block_since = self.owner.now

    # Its end.

    def on_fault(self, fault: ConnectionFault) -> None:
        self.owner.closed[f"http2_{code_name(fault.code)}"] += 1
        self._lose_streams()
        self._linger()

    def _linger(self) -> None:
        """What the client still sends is read and dropped for a while."""
        self.ending = True
        self._last_read = self.owner.now
        self._stalled_since = 0.0
        if not self.transport.is_closing():
            self.flush()  # streams may have written while they were told, and must not any more
            self.transport.resume_reading()
            self.transport.write_eof()

    def drain(self) -> None:
        """No more streams, but those that are on their way; then the connection closes."""
        if not self._draining_since and not self.ending:
            self._draining_since = self.owner.now
            self.write(frames.goaway(LARGEST_WINDOW, NO_ERROR) + frames.ping(_DRAIN_PING))

    def on_ping_ack(self, opaque: bytes) -> None:
        if opaque == _DRAIN_PING and self._draining_since:
            self._say_last()

    def _say_last(self) -> None:
        """Nothing that the client sent before it knew can still come."""
        if self.ending:
            return
        if self._refused_above == LARGEST_WINDOW:
            self._refused_above = self._last
            self.write(frames.goaway(self._last, NO_ERROR))
        self._close_if_drained()

    def _close_if_drained(self) -> None:
        if self._refused_above != LARGEST_WINDOW and not self.streams:
            self.ending = True
            self.flush()
            self._last_read = self.owner.now
            self.transport.close()

    def on_goaway(self, last_stream_id: int, code: int, detail: bytes) -> None:
        """A client that opens no more streams, and will close when it has what it asked for."""
        self._spend_noise()

    def take_bodies_up_to(self, limit: int) -> None:
        """Nothing: each stream asks its listener."""

    def check(self, now: float, limits: ServerLimits) -> None:
        """Closes the connection, or ends streams, when they have overstayed."""
        self.now = self.owner.now
        if self.ending:
            # What a connection that has been closed still has to send may take its time.
            closing = self.transport.is_closing()
            if now - self._last_read > (limits.idle_timeout if closing else LINGER):
                self.transport.abort()
        elif self._stalled_since and now - self._stalled_since > limits.idle_timeout:
            self.owner.closed["client_stalled"] += 1
            self.cut()
        elif self._block_since and now - self._block_since > limits.header_timeout:
            self.fail(ConnectionFault(ENHANCE_YOUR_CALM, "a header block that took too long"))
        elif not self._settings_acknowledged and now - self._began > limits.header_timeout:
            self.fail(ConnectionFault(SETTINGS_TIMEOUT, "SETTINGS are not acknowledged"))
        elif self._draining_since and now - self._draining_since > PATIENCE:
            self._say_last()
        elif self.at_rest_since < now - limits.idle_timeout and not self._draining_since:
            self.owner.closed["idle_timeout"] += 1
            self.drain()
        for stream in list(self.streams.values()):
            cast(ServerStream, stream).check(now, limits)

    def close_if_idle(self, idle_since: float) -> None:
        """For a drain: the streams that are left are awaited, their number is final."""
        if self._draining_since:
            self._say_last()

    @property
    def at_rest_since(self) -> float:
        """Since when there is no exchange; "infinity" while there is."""
        if self.streams or self.ending or self._stalled_since:
            return inf
        return self._last_read

    def close_if_at_rest(self, before: float) -> bool:
        if self.at_rest_since > before or self.transport.is_closing():
            return False
        self.write(frames.goaway(self._last, NO_ERROR))
        self.ending = True
        self.flush()
        self.transport.close()
        return True

    def refuse_connection(self) -> None:
        """One connection too many."""
        self.fail(ConnectionFault(ENHANCE_YOUR_CALM, "too many connections"))

    def abort(self) -> None:
        self.ending = True
        self.transport.abort()

    def cut(self) -> None:
        """Closes at once; exchanges are told, so that they are accounted."""
        self.ending = True
        self._lose_streams()
        self.transport.abort()


def _nothing(error: Exception | None) -> None:
    """A stream that is over is not counted any more."""


_LONGER: Final = ProtocolError("bad_request", "The body is longer than its Content-Length.")
_SHORTER: Final = ProtocolError("bad_request", "The body is shorter than its Content-Length.")
