"""gRPC-Web on both sides of a call: to the one who answers it is gRPC, to the client it is not.

``WebConsumer`` stands between the wire and the consumer of the call and translates what the client
sends; ``WebStream`` between the consumer and the wire, what it gets. ``grpc.web`` knows how.
"""

from __future__ import annotations

from collections.abc import Callable

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.status import is_grpc
from siger_gateway.grpc.web import ResponseBody, WebCall, status_of_head
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, DownstreamStream
from siger_gateway.proxy.translated import TranslatedStream


class WebStream(TranslatedStream):
    """The ``DownstreamStream`` of an exchange whose client speaks gRPC-Web on ``stream``."""

    __slots__ = ("_body", "_call")

    def __init__(self, stream: DownstreamStream, call: WebCall) -> None:
        super().__init__(stream)
        self._call = call
        self._body: ResponseBody | None = None  # once there is a response of gRPC

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
        if not is_grpc(dict(headers).get(b"content-type", b"")):  # some proxy's error page
            self._stream.send_head(status, headers, body, sized=sized, ends=ends, lines=lines)
            return
        translated = self._body = self._call.response_body()
        first = translated.feed(body) if body else b""
        trailers = status_of_head(headers)
        if trailers:  # they are in the head already: nothing else follows
            first += translated.end(trailers)
            self._body = None
        head = self._call.response_head(headers)
        self._stream.send_head(status, head, first, sized=False)

    def send_data(self, data: bytes) -> None:
        self._stream.send_data(data if self._body is None else self._body.feed(data))

    def send_end(self, trailers: Headers) -> None:
        if self._body is None:
            self._stream.send_end([])
        elif self._body.is_between_messages:
            self._stream.send_data(self._body.end(trailers))
            self._stream.send_end([])
        else:
            self._stream.abort()


class WebConsumer:
    """Translates the request of ``consumer``.

    :param request: as the consumer knows it.
    """

    __slots__ = ("_body", "_consumer", "_request")

    def __init__(self, consumer: Consumer, request: Request, call: WebCall) -> None:
        self._consumer = consumer
        self._request = request
        self._body = call.request_body()

    def start(self) -> None:
        self._consumer.start()

    def on_data(self, data: bytes) -> None:
        piece = self._translated(lambda: self._body.feed(data))
        if piece:
            self._consumer.on_data(piece)

    def on_end(self, trailers: Headers) -> None:
        piece = self._translated(self._body.end)
        if piece is not None:
            if piece:
                self._consumer.on_data(piece)
            self._request.complete = True
            self._consumer.on_end([])

    def _translated(self, translate: Callable[[], bytes]) -> bytes | None:
        try:
            return translate()
        except GatewayError as error:
            self._consumer.on_request_error(ProtocolError(error.reason, error.detail))
            return None

    def on_request_error(self, error: ProtocolError) -> None:
        self._consumer.on_request_error(error)

    def on_downstream_closed(self) -> None:
        self._consumer.on_downstream_closed()

    def pause_response(self) -> None:
        self._consumer.pause_response()

    def resume_response(self) -> None:
        self._consumer.resume_response()


def as_grpc(request: Request, call: WebCall) -> Request:
    """``request`` as the gRPC call that it stands for."""
    translated = Request(request.method, request.target, call.request_head(request.headers), True)
    translated.http2 = True
    translated.content_length = None if request.has_body else 0
    translated.complete = not request.has_body
    return translated
