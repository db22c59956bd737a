"""One exchange's part of a connection to a service, which to the exchange is the whole of one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Response
from siger_gateway.http.stream import HandedOver, ResponseConsumer
from siger_gateway.http2.faults import CANCEL, PROTOCOL_ERROR, REFUSED_STREAM, code_name
from siger_gateway.http2.messages import (
    check_fields,
    length_of,
    request_head,
    response_of,
    upgrade_head,
)
from siger_gateway.http2.stream import Stream
from siger_gateway.http2.tunnel import WEBSOCKET, StreamTransport, accept_of

if TYPE_CHECKING:
    from siger_gateway.http2.client import ClientConnection

MAX_INTERIM: Final = 100
"""1xx responses before the final one: each is passed on whether the client reads or not. A service
that says every 20 s that it is still there (102) has half an hour."""


class ClientStream(Stream):
    """One exchange's part of a connection; from ``begin`` on it has an id."""

    __slots__ = (
        "_began",
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
        "in_turns",
        "reused",
    )

    def __init__(self, client: ClientConnection) -> None:
        super().__init__(client, 0)
        self._client = client
        self._began = client.now
        self._consumer: ResponseConsumer | None = None
        self._method = b""
        self._response: Response | None = None
        self._declared = -1  # bytes of the body, by its head; below zero: not said, 1xx so far
        self._received = 0
        self._sending = False
        self._paused = False
        self._upgrade: bytes | None = None  # the key of a WebSocket that has been asked for
        self._tunnel: StreamTransport | None = None
        self.in_turns = False
        """A client of HTTP/2 asks: the answer may wait, HTTP/1.1 may not. Set before ``begin``."""
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
        client.write(client.headers_frames(self.id, head, not self._sending))

    def write_data(self, data: bytes) -> None:
        """A non-empty piece of the request body."""
        self.put_data(data)

    def write_end(self, trailers: Headers) -> None:
        self._sending = False
        self.put_end(trailers)

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
        if client.streams.get(self.id) is self:
            client.forget_reset(self.id, CANCEL)
            client.ask(self._began)

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
            if self._tunnel is not None:
                raise ProtocolError("upstream_protocol", "A tunnel has no trailers.")
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
            self._declared -= 1
            if self._declared < -1 - MAX_INTERIM:
                raise ProtocolError("upstream_protocol", "Too many 1xx responses.")
            consumer.on_informational(response)
            return
        if self._upgrade is not None and response.status == 200 and not ends:
            response.status = 101
            accept = (b"sec-websocket-accept", accept_of(self._upgrade))
            response.headers = [*response.headers, (b"upgrade", WEBSOCKET), accept]
            self._response = response
            consumer.on_response(response)
            return
        if self._method == b"HEAD" or response.status in (204, 304):
            self._declared = 0  # whatever Content-Length says, that is not here
        elif b"content-length" in response.fields:
            self._declared = length_of(response.headers)
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
        if self._received < self._declared:
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


def _nothing(error: Exception | None) -> None:
    """A stream that is over is not counted any more."""
