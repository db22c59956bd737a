"""The upstream side of HTTP/1.1: one connection to an endpoint, one exchange at a time.

The connection belongs to an exchange between ``begin`` and the end of the response, and to the
endpoint's pool otherwise. While nobody uses it, anything that arrives on it, even the end of the
stream, closes it: a byte that no request asked for must not become the next response's first.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, cast

from siger_gateway.http.headers import Headers, encode_head
from siger_gateway.http.message import ProtocolError, Response
from siger_gateway.http.stream import HandedOver, ResponseConsumer
from siger_gateway.http1.response_parser import ResponseParser

WRITE_HIGH_WATER: Final = 256 * 1024
"""Bytes waiting for a slow service at which the client is no longer read: one read of uvloop."""


class ConnectionOwner(Protocol):
    """The pool: told when a connection is free again, and when it is gone."""

    def release(self, connection: UpstreamConnection) -> None: ...

    def forget(self, connection: UpstreamConnection) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to an endpoint."""

    __slots__ = (
        "_chunked",
        "_consumer",
        "_owner",
        "_parser",
        "_paused",
        "_sending",
        "_transport",
        "closed",
        "idle_since",
        "reused",
    )

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._parser = ResponseParser()
        self._consumer: ResponseConsumer | None = None
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self._paused = False
        self._chunked = False
        self._sending = False
        self.closed = False
        self.reused = False
        """Whether an exchange has been completed on it: it may be gone without our knowing yet."""
        self.idle_since = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._consumer is None else "busy"
        return f"<UpstreamConnection {state}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)

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
        """Takes the connection for one exchange and sends its request head.

        :param upgrade: the protocols that ``headers`` offer; the response may then have status 101,
            and ``switch_protocols`` has to follow.
        :param content_length: of the body, as in ``headers``; 0: there is none; None: not known,
            the body is sent in chunks. Where there is a body, ``write_end`` has to follow.
        :param lines: fields that come before ``headers``, from ``Message.lines_without``.
        """
        self._consumer = consumer
        self._parser.expect(method, upgrade)
        self._chunked = content_length is None
        self._sending = content_length != 0
        if self._chunked:
            headers = [*headers, (b"transfer-encoding", b"chunked")]
        self._transport.write(encode_head(b"%b %b HTTP/1.1" % (method, target), headers, lines))

    def write_data(self, data: bytes) -> None:
        """A non-empty piece of the request body."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)

    def write_end(self, trailers: Headers) -> None:
        self._sending = False
        if self._chunked:
            self._transport.write(encode_head(b"0", trailers) if trailers else b"0\r\n\r\n")

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def switch_protocols(self, response: Response, protocol: asyncio.BaseProtocol) -> HandedOver:
        """Lets ``protocol`` have the transport, after a response with status 101."""
        self._consumer = None
        self._transport.set_protocol(protocol)
        return HandedOver(self._transport, response.take_body(), self.connection_lost)

    def discard(self) -> None:
        """Closes a connection that has been given up while it was being opened: the owner does not
        count it any more."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def abort(self) -> None:
        """Closes at once, without a word to the consumer."""
        self._consumer = None
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        consumer = self._consumer
        if consumer is None:
            self.abort()
            return
        parser = self._parser
        before = parser.response
        try:
            parser.receive(data)
        except ProtocolError as error:
            self.abort()
            consumer.on_upstream_lost("upstream_protocol", error.detail)
            return
        if parser.informational:
            for informational in parser.informational:
                consumer.on_informational(informational)
            parser.informational.clear()
        response = parser.response
        if response is None:
            return
        if response.complete:
            # Free before the consumer hears of the end: what it starts next may take it.
            self._finish(response)
        if before is None:
            consumer.on_response(response)
        else:
            consumer.on_response_data(response)

    def _finish(self, response: Response) -> None:
        self._consumer = None
        # A request that is still being sent would run into the next one.
        if response.keep_alive and not (self._sending or self._parser.overrun):
            self.resume_reading()
            self.reused = True
            self._owner.release(self)
        else:
            self.abort()

    def eof_received(self) -> bool:
        if self._consumer is None:  # leave the pool now, not when the transport has closed
            self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        response = self._parser.response
        if response is not None and response.until_close and exc is None:
            response.complete = True
            consumer.on_response_data(response)
        else:
            consumer.on_upstream_lost("upstream_reset", str(exc or "end of stream"))

    def pause_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.pause_request()

    def resume_writing(self) -> None:
        if self._consumer is not None:
            self._consumer.resume_request()
