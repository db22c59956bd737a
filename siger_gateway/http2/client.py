"""The upstream side of HTTP/2: one connection to an endpoint, and a stream for each exchange on it.

To its exchange a stream is what a whole connection is in HTTP/1.1 (``http1.client``): ``begin``
sends the head, and the consumer hears of the response. To its pool the connection says how many
more streams it takes (``room``), and when that changes.

What the service has certainly not looked at may be sent again, elsewhere: streams above the last id
of a GOAWAY, and streams refused (RFC 9113 section 8.7). Its exchange hears ``stream_refused``.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from siger_gateway.http2 import frames
from siger_gateway.http2.client_stream import ClientStream
from siger_gateway.http2.connection import REQUESTS, WRITE_HIGH_WATER, Connection
from siger_gateway.http2.faults import (
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
    HeaderListTooLarge,
    StreamFault,
)
from siger_gateway.http2.frames import PREFACE
from siger_gateway.http2.stream import STREAM_WINDOW

MAX_STREAMS: Final = 100
"""Streams at a time until SETTINGS say how many: what RFC 9113 section 6.5.2 asks of servers."""
MOST_STREAMS: Final = 1024
"""Streams at a time however many the service takes: beyond, another connection does better."""
LAST_STREAM: Final = 2**31 - 1
"""Ids are not used again: after this one a connection is used up (section 5.1.1)."""
HEADER_BYTES: Final = 64 * 1024
"""Bytes of a response's head, or of its trailers; nginx has 4 to 8 KiB, Envoy 60."""
MAX_FIELDS: Final = 128
TRUST: Final = 100.0
"""A service is no stranger: what it sends for nothing is bounded only so that no fault of it takes
the gateway with it."""
ANSWER: Final = 3.0
"""Seconds in which a service on whose connection something took too long has to answer a PING."""
PING_PAUSE: Final = 300.0
"""Seconds after an answer in which it is not asked again: servers of gRPC end a connection on which
they are asked three times sooner than that (grpc.http2.min_ping_interval_without_data_ms)."""

_QUESTION: Final = b"sigerask"


class StreamOwner(Protocol):
    """The pool: told when a connection has room for another stream, and when it is gone."""

    def on_room(self, connection: ClientConnection) -> None: ...

    def on_leaving(self, connection: ClientConnection) -> None:
        """It takes no more streams, but has some."""

    def forget(self, connection: ClientConnection) -> None: ...


class ClientConnection(Connection):
    """One connection to an endpoint."""

    __slots__ = (
        "_asked_since",
        "_heard_at",
        "_limit",
        "_limit_said",
        "_next",
        "_not_before",
        "_owner",
        "closed",
        "idle_since",
        "leaving",
        "opened",
        "reused",
        "scheme",
        "takes_upgrades",
    )

    def __init__(self, owner: StreamOwner, now: float) -> None:
        listed = HEADER_BYTES + 32 * MAX_FIELDS
        super().__init__(now, REQUESTS, HEADER_BYTES, listed, MAX_FIELDS, TRUST)
        self._owner = owner
        self._next = 1
        self._limit_said = False
        self._limit = 0  # until the service's SETTINGS are here
        self.opened = asyncio.Event()
        """The service's SETTINGS are here, or it is closed."""
        self.scheme = b"http"
        self.leaving = False
        """The service takes no more streams on it."""
        self.closed = False
        self.reused = False
        """Whether an exchange has been completed on it: it may be gone without our knowing yet."""
        self.idle_since = now
        self.in_turns = False  # until it is known who asks
        self.takes_upgrades = False
        """The service knows the extended CONNECT."""
        self._asked_since = 0.0  # PING, whether it is still there
        self._not_before = 0.0  # is it asked again
        self._heard_at = now

    def __repr__(self) -> str:
        state = "closed" if self.closed else "leaving" if self.leaving else "open"
        return f"<ClientConnection {state} streams={len(self.streams)}>"

    @property
    def room(self) -> int:
        """How many more streams it takes now."""
        if self.leaving or self.closed:
            return 0
        return self._limit - len(self.streams)

    def open(self, stream: ClientStream) -> None:
        """Gives ``stream`` its id."""
        stream.id = self._next
        self.streams[stream.id] = stream
        self.in_turns = stream.in_turns
        self._next += 2
        if self._next > LAST_STREAM:
            self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self.scheme = b"https"
            if ssl_object.selected_alpn_protocol() not in ("h2", None):
                self.discard()
                return
        settings = [
            (frames.ENABLE_PUSH, 0),
            (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (frames.MAX_HEADER_LIST_SIZE, self._list_limit),
        ]
        self.write(
            PREFACE + frames.settings_frame(settings) + frames.window_update(0, self.first_credit())
        )

    def eof_received(self) -> bool:
        self._leave()
        return False

    def pause_writing(self) -> None:
        self.stalled = True  # but read on: two ends that wait for each other would wait for ever

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            if self._waiting:  # answers may have come right before
                self._queue.catch_up(self)
        finally:
            self.close_down(str(exc or "end of stream"))

    def close_down(self, detail: str) -> None:
        """It is gone, and its streams with it."""
        self.ending = True
        if not self.closed:
            self.closed = True
            self.opened.set()
            self._owner.forget(self)
        streams = list(self.streams.values())
        self.streams.clear()
        self.turns.clear()
        for stream in streams:
            stream.on_lost(detail)

    def retire(self) -> None:
        """Takes no more streams, and closes when the last one is over."""
        self._leave()
        self._close_if_left()

    def _leave(self) -> None:
        if not self.leaving:
            self.leaving = True
            if not self.closed:
                self._owner.on_leaving(self)

    def abort(self) -> None:
        """Closes at once."""
        self.transport.abort()
        self.close_down("closed")

    def discard(self) -> None:
        """Closes a connection that has been given up while it was being opened."""
        self.closed = True
        self.ending = True
        self.opened.set()
        if self.transport is not None:
            self.transport.abort()

    def ask(self, began: float) -> None:
        """A stream that began at ``began`` has been given up. If that was because nothing comes any
        more, the others on the connection, and those to come, must not wait in vain for it."""
        silent = self._heard_at <= began and self.now - began >= 1
        if silent and not (self._asked_since or self.ending) and self.now >= self._not_before:
            self._asked_since = self.now
            self.write(frames.ping(_QUESTION))

    def on_ping_ack(self, opaque: bytes) -> None:
        if opaque == _QUESTION:
            self._not_before = self.now + PING_PAUSE

    def check(self, now: float) -> None:
        """Once a second: closes the connection if the service does not answer."""
        self.now = now
        if self._asked_since and now - self._asked_since > ANSWER:
            self.abort()

    # In.

    def data_received(self, data: bytes) -> None:
        self._asked_since = 0.0
        self._heard_at = self.now
        super().data_received(data)

    def _on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        try:
            headers = self._decoder.decode(block, self._list_limit, self._count_limit)
        except HeaderListTooLarge:
            self._check_opened(stream_id)
            raise StreamFault(stream_id, PROTOCOL_ERROR, "too large a head") from None
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.on_headers(headers, ends=ends)
            return
        self._check_opened(stream_id)
        self._spend_noise()
        if stream_id not in self._reset:  # or not any more: many may be given up at once
            raise StreamFault(stream_id, STREAM_CLOSED, "HEADERS for a stream that is over")

    def _check_opened(self, stream_id: int) -> None:
        if stream_id >= self._next or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame for a stream that is not open")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        super()._on_settings(flags, stream_id, payload)
        if not self.opened.is_set():
            if not self._limit_said:
                self._limit = MAX_STREAMS
            self.opened.set()

    def on_setting(self, identifier: int, value: int) -> None:
        if identifier == frames.MAX_CONCURRENT_STREAMS:
            grown = value > self._limit
            self._limit = min(value, MOST_STREAMS)
            self._limit_said = True
            if grown and self.room > 0 and self.opened.is_set():
                self._owner.on_room(self)
        elif identifier == frames.ENABLE_CONNECT_PROTOCOL:
            self.takes_upgrades = value == 1
        elif identifier == frames.ENABLE_PUSH and value:
            raise ConnectionFault(PROTOCOL_ERROR, "a server cannot allow pushes")

    def on_goaway(self, last_stream_id: int, code: int, detail: bytes) -> None:
        refused = [self.streams.pop(one) for one in list(self.streams) if one > last_stream_id]
        for stream in refused:
            stream.drop_waiting()
        self._leave()
        for stream in refused:
            cast(ClientStream, stream).on_refused()
        self._close_if_left()

    def on_stream_over(self) -> None:
        self.idle_since = self.now
        if self.leaving:
            self._close_if_left()
        elif len(self.streams) < self._limit:
            self._owner.on_room(self)

    def _close_if_left(self) -> None:
        if self.leaving and not self.streams and not self.closed:
            self.closed = True
            self.ending = True
            self.opened.set()
            self._owner.forget(self)
            self.flush()
            self.transport.close()

    def on_fault(self, fault: ConnectionFault) -> None:
        """The service does not speak HTTP/2 as it should."""
        self.transport.close()
        self.closed = True
        self.opened.set()
        self._owner.forget(self)
        streams = list(self.streams.values())
        self.streams.clear()
        self.turns.clear()
        for stream in streams:
            cast(ClientStream, stream)._tell_lost("upstream_protocol", fault.detail)
