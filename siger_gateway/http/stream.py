"""What passes between a downstream wire and the layers above it: one request, one response.

A wire (HTTP/1.1 here, HTTP/2 later) parses a request, asks its ``Handler`` for a ``Consumer`` and
starts it. From then on the consumer is told of the request's body and of the client's going away,
and answers through the ``DownstreamStream``. No call blocks; backpressure is explicit both ways:
``pause_reading`` stops the client, ``pause_response`` stops the consumer.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request, Response


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A transport that goes on in another protocol than HTTP (RFC 9110 section 7.8).

    ``early`` is what the peer has already sent in it. ``closed`` has to be called with what the new
    protocol's ``connection_lost`` is called with: whoever had the transport still counts it.
    """

    transport: asyncio.Transport
    early: bytes
    closed: Callable[[Exception | None], None]


def reset_when_closed(transport: asyncio.Transport) -> None:
    """Closing will send RST in place of FIN (SO_LINGER without time to linger, socket(7)): the peer
    cannot take what it has for the whole."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class DownstreamStream(Protocol):
    """The response side of one exchange, as a wire offers it."""

    @property
    def peer(self) -> str:
        """The address of the other end of the connection, without port."""

    @property
    def scheme(self) -> bytes:
        """``http`` or ``https``."""

    def client_certificate(self) -> dict[str, Any] | None:
        """The verified certificate of the client, as ``ssl.SSLSocket.getpeercert`` tells it; None:
        there is none."""

    def limit_body(self, limit: int) -> None:
        """A body of this request that comes in chunks may have so many bytes, and no more."""

    def carry_messages(self) -> None:
        """The body of this request is a stream of messages, which may go on for days, and be
        silent for hours: it has neither a size nor a rate, unless ``limit_body`` says so."""

    bytes_in: int
    """Body bytes of the request so far."""

    bytes_out: int
    """Body bytes of the response so far."""

    @property
    def head_sent(self) -> bool:
        """Whether the final response head is out: then an error can only break the stream."""

    def send_informational(self, status: int, headers: Headers) -> None:
        """A 1xx response (RFC 9110 section 15.2); dropped for clients that do not know them."""

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
        """The final response head and the first piece of the body.

        :param sized: the headers hold the length of the body, or there is none; otherwise the
            wire marks the end of the body in its own way.
        :param ends: ``send_end([])`` follows at once: a wire may say all of it with the head.
        :param lines: fields that come before ``headers``, from ``Message.lines_without``; for
            HTTP/1.1 alone.
        """

    def send_data(self, data: bytes) -> None:
        """A further, non-empty piece of the body."""

    def send_end(self, trailers: Headers) -> None:
        """The response is complete. The stream is no longer the consumer's."""

    def switch_protocols(self, headers: Headers, protocol: asyncio.BaseProtocol) -> HandedOver:
        """Answers 101 to a request with ``upgrade`` and lets ``protocol`` have the transport. No
        call of the consumer comes any more."""

    def abort(self) -> None:
        """Breaks off so that the client cannot take what it has for the whole (RFC 9112 8)."""

    def close_after_response(self) -> None:
        """No further request on this connection; announced if the head is not out yet."""

    def hold(self) -> None:
        """The consumer has to wait before it knows who answers: nothing of the request's body is
        handed on until ``hand_over``, and no more than one read of it is kept."""

    def hand_over(self, consumer: Consumer) -> None:
        """``consumer`` answers in place of the one that has called ``hold``; it is started."""

    def pause_reading(self) -> None:
        """No more ``on_data`` until ``resume_reading``, save for what was already read."""

    def resume_reading(self) -> None: ...


class Consumer(Protocol):
    """The one who answers a request. After ``send_end`` or ``abort`` no call comes any more."""

    def start(self) -> None:
        """The stream is ready; called exactly once, before every other call."""

    def on_data(self, data: bytes) -> None:
        """A piece of the request body. Never called for a request without body."""

    def on_end(self, trailers: Headers) -> None:
        """The request body is complete. Never called for a request without body."""

    def on_request_error(self, error: ProtocolError) -> None:
        """The rest of the request body will not come: too large, too slow or malformed."""

    def on_downstream_closed(self) -> None:
        """The client has gone; nothing can be sent any more."""

    def pause_response(self) -> None:
        """The client reads slowly: send no more until ``resume_response``."""

    def resume_response(self) -> None: ...


class ResponseConsumer(Protocol):
    """The exchange that an upstream connection, or stream, works for."""

    def on_informational(self, response: Response) -> None:
        """A 1xx response before the final one."""

    def on_response(self, response: Response) -> None:
        """The head of the final response, with what has already arrived of its body."""

    def on_response_data(self, response: Response) -> None:
        """More of the body, or its end, can be taken from ``response``."""

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        """The connection broke before the response was complete; ``reason`` as in ``errors``."""

    def pause_request(self) -> None:
        """The service reads slowly: write no more until ``resume_request``."""

    def resume_request(self) -> None: ...


class Handler(Protocol):
    """What a listener serves."""

    def dispatch(self, request: Request, stream: DownstreamStream) -> Consumer:
        """The consumer for ``request``; must not raise and not yet send."""

    def reject(self, error: ProtocolError, stream: DownstreamStream) -> None:
        """Answers, through ``stream``, bytes that were no valid request."""
