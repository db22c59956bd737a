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
from typing import Final, cast

from siger_gateway.http.connection import Acceptor, ServerLimits
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http2 import frames
from siger_gateway.http2.connection import RESPONSES, WRITE_HIGH_WATER, Connection
from siger_gateway.http2.faults import (
    ENHANCE_YOUR_CALM,
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
from siger_gateway.http2.messages import request_of
from siger_gateway.http2.server_stream import ServerStream
from siger_gateway.http2.stream import STREAM_WINDOW

MAX_STREAMS: Final = 128
"""Exchanges at a time of one connection: nginx's default; RFC 9113 section 6.5.2 wants 100."""
FIELD_OVERHEAD: Final = 32
"""Bytes that a field counts beside its name and value (RFC 9113 section 6.5.2)."""
LINGER: Final = 3.0
"""Seconds in which what a refused client still sends is read and dropped, or a reset would take the
GOAWAY from it; as in HTTP/1.1."""
REMEMBERED_GAPS: Final = 64
"""Runs of ids that a client may pass over and have told apart from those that it has used (RFC 9113
section 5.1.1); nobody but tests passes over any."""
PATIENCE: Final = 1.0
"""Seconds that a client gets to answer the PING behind a first GOAWAY."""

_DRAIN_PING: Final = b"sigerend"


class ServerConnection(Connection):
    """One accepted connection."""

    __slots__ = (
        "_began",
        "_block_since",
        "_draining_since",
        "_last",
        "_last_read",
        "_refused_above",
        "_skipped",
        "_stalled_since",
        "owner",
        "peer",
        "scheme",
    )

    preface = PREFACE

    def __init__(self, owner: Acceptor) -> None:
        limits = owner.limits
        listed = limits.header_bytes + FIELD_OVERHEAD * limits.header_count
        super().__init__(
            owner.now, RESPONSES, limits.header_bytes, listed, limits.header_count, 1.0
        )
        self.owner = owner
        self.peer = ""
        self.scheme = b"http"
        self._last = -1  # stream that has been opened
        self._skipped: tuple[range, ...] = ()  # ids that were passed over, and so are never used
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
        return max(self._last, 0)

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
        elif stream_id == self._last + 2:
            self._open(stream_id, headers, ends)
        elif stream_id > self._last and stream_id & 1:
            if stream_id <= self._refused_above:
                skipped = range(self._last + 2, stream_id, 2)
                self._skipped = (*self._skipped[1 - REMEMBERED_GAPS :], skipped)
            self._open(stream_id, headers, ends)
        elif stream_id in self._reset:
            self._spend_noise()  # they crossed
        elif stream_id & 1 and not any(stream_id in skipped for skipped in self._skipped):
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
            self._refused_above = self.last_stream_id
            self.write(frames.goaway(self.last_stream_id, NO_ERROR))
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
        self.write(frames.goaway(self.last_stream_id, NO_ERROR))
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
