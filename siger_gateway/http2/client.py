"""The upstream side of HTTP/2: one connection to an endpoint, and a stream for each exchange on it.

To its exchange a stream is what a whole connection is in HTTP/1.1 (``http1.client``): ``begin``
sends the head, and the consumer hears of the response. To its pool the connection says how many
more streams it takes (``room``), and when that changes.

What the service has certainly not looked at may be sent again, elsewhere: streams above the last id
of a GOAWAY, and streams refused (RFC 9113 section 8.7). Its exchange hears ``stream_refused``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, cast

from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Response
from siger_gateway.http.stream import HandedOver, ResponseConsumer
from siger_gateway.http2 import frames
from siger_gateway.http2.connection import (
    STREAM_WINDOW,
    WRITE_HIGH_WATER,
    Connection,
    Stream,
    encode,
)
from siger_gateway.http2.faults import (
    CANCEL,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
    HeaderListTooLarge,
    StreamFault,
    code_name,
)
from siger_gateway.http2.frames import PREFACE
from siger_gateway.http2.messages import (
    check_fields,
    length_of,
    request_head,
    response_of,
    upgrade_head,
)
from siger_gateway.http2.tunnel import WEBSOCKET, StreamTransport, accept_of

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


def _nothing(error: Exception | None) -> None:
    """A stream that is over is not counted any more."""


class StreamOwner(Protocol):
    """The pool: told when a connection has room for another stream, and when it is gone."""

    def on_room(self, connection: ClientConnection) -> None: ...

    def forget(self, connection: ClientConnection) -> None: ...


class ClientStream(Stream):
    """One exchange's part of a connection; from ``begin`` on it has an id."""

    __slots__ = (
        "_client",
        "_consumer",
        "_declared",
        "_method",
        "_paused",
        "_received",
        "_response",
        "_sending",
        "_tunnel",
        "_upgrade",
        "reused",
    )

    def __init__(self, client: ClientConnection) -> None:
        super().__init__(client, 0)
        self._client = client
        self._consumer: ResponseConsumer | None = None
        self._method = b""
        self._response: Response | None = None
        self._declared = -1  # bytes of the response's body, by its head
        self._received = 0
        self._sending = False
        self._paused = False
        self._upgrade: bytes | None = None  # the key of a WebSocket that has been asked for
        self._tunnel: StreamTransport | None = None
        self.reused = client.reused
        """Whether an exchange has been completed on the connection before."""

    def __repr__(self) -> str:
        return f"<ClientStream {self.id} {self._response!r}>"

    # Of the exchange.

    def begin(
        self,
        consumer: ResponseConsumer,
        method: bytes,
        target: bytes,
        headers: Headers,
        content_length: int | None,
        upgrade: bytes | None = None,
        lines: bytes = b"",
    ) -> None:
        """Opens the stream with the head of a request; as ``http1.client``'s."""
        assert not lines, "lines are HTTP/1.1's"
        client = self._client
        self._consumer = consumer
        self._method = method
        self._sending = content_length != 0
        authority = b""
        for name, value in headers:
            if name == b"host":
                authority = value
                break
        if upgrade is None:
            head = request_head(method, target, client.scheme, authority, headers)
        elif client.is_new:  # whether it takes upgrades is not known yet (RFC 8441 section 3)
            client.begin_later[self] = partial(
                self.begin, consumer, method, target, headers, content_length, upgrade
            )
            return
        elif client.takes_upgrades and upgrade.lower() == WEBSOCKET:
            head = upgrade_head(target, client.scheme, authority, headers)
            self._upgrade = dict(headers).get(b"sec-websocket-key", b"")
            self._sending = True
        else:
            asyncio.get_running_loop().call_soon(
                self._tell_lost, "upstream_protocol", "the service takes no upgrades in HTTP/2"
            )
            return
        client.open(self)
        self.send_window = client.peer_window
        ends = not self._sending
        client.write(frames.headers_frames(self.id, encode(head), ends, client.peer_frame_size))

    def write_data(self, data: bytes) -> None:
        """A non-empty piece of the request body."""
        self.put_data(data)

    def write_end(self, trailers: Headers) -> None:
        self._sending = False
        client = self._client
        if trailers:
            block = encode(trailers)
            ending = frames.headers_frames(self.id, block, True, client.peer_frame_size)
        else:
            ending = frames.data_frame(self.id, b"", True)
        self.put_end(ending)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.credit()

    def switch_protocols(self, response: Response, protocol: asyncio.BaseProtocol) -> HandedOver:
        """Lets ``protocol`` have the stream, after what has become a response with status 101."""
        self._consumer = None
        self._tunnel = StreamTransport(self, protocol)
        return HandedOver(self._tunnel, response.take_body(), _nothing)

    def abort(self) -> None:
        """Gives the stream up, without a word to the consumer."""
        self._consumer = None
        client = self._client
        client.begin_later.pop(self, None)
        if client.streams.get(self.id) is self:
            client.forget_reset(self.id, CANCEL)
            client.ask()

    # Of the connection.

    def on_wait(self) -> None:
        if self._consumer is not None:
            self._consumer.pause_request()
        elif self._tunnel is not None:
            self._tunnel.on_wait()

    def on_room(self) -> None:
        if self._consumer is not None:
            self._consumer.resume_request()
        elif self._tunnel is not None:
            self._tunnel.on_room()

    def on_sent(self) -> None:
        if self._tunnel is not None:
            self._tunnel.on_sent()

    def on_headers(self, headers: Headers, *, ends: bool) -> None:
        response = self._response
        try:
            if response is None:
                self._on_head(headers, ends=ends)
                return
            if not ends:
                raise ProtocolError("upstream_protocol", "Trailers have to end the stream.")
            check_fields(headers)
        except ProtocolError as error:
            self._fail("upstream_protocol", error.detail)
            return
        response.trailers = headers
        self._complete(response, begun=True)

    def _on_head(self, headers: Headers, *, ends: bool) -> None:
        response = response_of(headers)
        consumer = self._consumer
        assert consumer is not None
        if response.status < 200:
            if ends:
                raise ProtocolError("upstream_protocol", "An interim response cannot be the end.")
            consumer.on_informational(response)
            return
        if self._upgrade is not None and response.status == 200 and not ends:
            response.status = 101
            accept = (b"sec-websocket-accept", accept_of(self._upgrade))
            response.headers = [*response.headers, (b"upgrade", WEBSOCKET), accept]
            self._response = response
            consumer.on_response(response)
            return
        if any(name == b"content-length" for name, _ in response.headers):
            self._declared = length_of(response.headers)
        if self._method == b"HEAD" or response.status in (204, 304):
            self._declared = -1 if not ends else 0
        self._response = response
        if ends:
            self._complete(response, begun=False)
        else:
            consumer.on_response(response)

    def on_data(self, data: bytes, size: int, *, ends: bool) -> None:
        response = self._response
        self.taken += size
        if self._tunnel is not None:
            self._tunnel.on_data(data, ends=ends)
            return
        if response is None:
            self._fail("upstream_protocol", "DATA before the head of the response")
            return
        self._received += len(data)
        if self._received > self._declared >= 0:
            self._fail("upstream_protocol", "more DATA than Content-Length says")
            return
        if data:
            response.append(data)
        if ends:
            self._complete(response, begun=True)
            return
        consumer = self._consumer
        if consumer is not None and data:
            consumer.on_response_data(response)
        if self._consumer is not None and not self._paused:
            self.credit()

    def _complete(self, response: Response, *, begun: bool) -> None:
        if self._received < self._declared and self._method != b"HEAD":
            self._fail("upstream_protocol", "less DATA than Content-Length says")
            return
        response.complete = True
        consumer, self._consumer = self._consumer, None
        client = self._client
        client.reused = True
        # Over before the consumer hears of it: what it starts next may have the room.
        if self._sending or self.is_waiting:  # the rest of the request is not wanted
            client.forget_reset(self.id, CANCEL)
        else:
            client.forget(self.id)
        if consumer is None:
            return
        if begun:
            consumer.on_response_data(response)
        else:
            consumer.on_response(response)

    def on_reset(self, code: int) -> None:
        reason = "stream_refused" if code == REFUSED_STREAM else "upstream_reset"
        self._tell_lost(reason, code_name(code))

    def on_lost(self, detail: str) -> None:
        self._tell_lost("upstream_reset", detail)

    def on_refused(self) -> None:
        """A GOAWAY says that it has not been looked at."""
        self._tell_lost("stream_refused", "goaway")

    def _fail(self, reason: str, detail: str) -> None:
        if self._client.streams.get(self.id) is self:
            self._client.forget_reset(self.id, PROTOCOL_ERROR)
        self._tell_lost(reason, detail)

    def _tell_lost(self, reason: str, detail: str) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.on_upstream_lost(reason, detail)
        elif self._tunnel is not None:
            self._tunnel.lose(ConnectionResetError(detail))


class ClientConnection(Connection):
    """One connection to an endpoint."""

    def __init__(self, owner: StreamOwner, now: float) -> None:
        super().__init__(now, HEADER_BYTES, HEADER_BYTES + 32 * MAX_FIELDS, MAX_FIELDS, TRUST)
        self._owner = owner
        self._next = 1
        self._limit = MAX_STREAMS
        self.scheme = b"http"
        self.leaving = False
        """The service takes no more streams on it."""
        self.closed = False
        self.reused = False
        """Whether an exchange has been completed on it: it may be gone without our knowing yet."""
        self.idle_since = now
        self.takes_upgrades = False
        """The service knows the extended CONNECT."""
        self.begin_later: dict[ClientStream, Callable[[], None]] = {}
        """Those that have to know whether it does."""
        self._asked_since = 0.0  # PING, whether it is still there

    def __repr__(self) -> str:
        state = "closed" if self.closed else "leaving" if self.leaving else "open"
        return f"<ClientConnection {state} streams={len(self.streams)}>"

    @property
    def is_new(self) -> bool:
        """The service has not sent its SETTINGS yet."""
        return not self._settings_seen

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
        self._next += 2
        if self._next > LAST_STREAM:
            self.leaving = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self.scheme = b"https"
            if ssl_object.selected_alpn_protocol() not in ("h2", None):
                self.closed = True
                self.transport.abort()
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
        self.leaving = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.close_down(str(exc or "end of stream"))

    def close_down(self, detail: str) -> None:
        """It is gone, and its streams with it."""
        self.ending = True
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
        streams = list(self.streams.values())
        streams += self.begin_later
        self.streams.clear()
        self.begin_later.clear()
        self.turns.clear()
        for stream in streams:
            stream.on_lost(detail)

    def retire(self) -> None:
        """Takes no more streams, and closes when the last one is over."""
        self.leaving = True
        self._close_if_left()

    def abort(self) -> None:
        """Closes at once."""
        self.transport.abort()
        self.close_down("closed")

    def discard(self) -> None:
        """Closes a connection that has been given up while it was being opened."""
        self.closed = True
        self.ending = True
        if self.transport is not None:
            self.transport.abort()

    def ask(self) -> None:
        """A stream has been given up. If that was because nothing comes any more, the others on
        the connection, and those to come, must not wait in vain for it."""
        if not self._asked_since and not self.ending:
            self._asked_since = self.now
            self.write(frames.ping(b"sigerask"))

    def check(self, now: float) -> None:
        """Once a second: closes the connection if the service does not answer."""
        self.now = now
        if self._asked_since and now - self._asked_since > ANSWER:
            self.abort()

    # In.

    def data_received(self, data: bytes) -> None:
        self._asked_since = 0.0
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
        if stream_id not in self._reset:
            raise ConnectionFault(STREAM_CLOSED, "HEADERS for a stream that is over")

    def _check_opened(self, stream_id: int) -> None:
        if stream_id >= self._next or not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame for a stream that is not open")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        super()._on_settings(flags, stream_id, payload)
        if self.begin_later and not self.is_new:
            later, self.begin_later = self.begin_later, {}
            for begin in later.values():
                begin()

    def on_setting(self, identifier: int, value: int) -> None:
        if identifier == frames.MAX_CONCURRENT_STREAMS:
            grown = value > self._limit
            self._limit = min(value, MOST_STREAMS)
            if grown and self.room > 0:
                self._owner.on_room(self)
        elif identifier == frames.ENABLE_CONNECT_PROTOCOL:
            self.takes_upgrades = value == 1
        elif identifier == frames.ENABLE_PUSH and value:
            raise ConnectionFault(PROTOCOL_ERROR, "a server cannot allow pushes")

    def on_goaway(self, last_stream_id: int, code: int, detail: bytes) -> None:
        self.leaving = True
        for stream_id in [one for one in self.streams if one > last_stream_id]:
            stream = cast(ClientStream, self.streams.pop(stream_id))
            stream.drop_waiting()
            stream.on_refused()
        self._close_if_left()

    def on_stream_over(self) -> None:
        self.idle_since = self.now
        if self.leaving:
            self._close_if_left()
        elif self.room > 0:
            self._owner.on_room(self)

    def _close_if_left(self) -> None:
        if self.leaving and not self.streams and not self.closed:
            self.closed = True
            self.ending = True
            self._owner.forget(self)
            self.flush()
            self.transport.close()

    def on_fault(self, fault: ConnectionFault) -> None:
        """The service does not speak HTTP/2 as it should."""
        self.transport.close()
        self.closed = True
        self._owner.forget(self)
        streams = [*self.streams.values(), *self.begin_later]
        self.streams.clear()
        self.begin_later.clear()
        self.turns.clear()
        for stream in streams:
            cast(ClientStream, stream)._tell_lost("upstream_protocol", fault.detail)
