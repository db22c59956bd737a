"""JSON for services of gRPC: a request of HTTP becomes a call, and its response JSON.

    match     which method of the service a request calls (``grpc.transcoding``)
    consumer  stands between the wire and the exchange, and makes messages of what the client sends:
              ``WholeRequest`` of the whole body, ``LinesRequest`` of each line as it comes,
              ``PiecesRequest`` of each piece of what is no JSON
    reply     stands between the exchange and the wire (``json_reply``)

It takes protobuf, so nothing imports it before a service is to be transcoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import frame
from siger_gateway.grpc.json_streams import (
    MAX_LINE,
    RawStream,
    RequestLines,
    ResponseStream,
    stream_form,
)
from siger_gateway.grpc.transcoding import Match, Transcoder, call_head
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, DownstreamStream
from siger_gateway.proxy.json_reply import JsonReply
from siger_gateway.proxy.transcoded_exchange import TranscodedExchange

if TYPE_CHECKING:
    from siger_gateway.grpc.reflected import Reflected


class Transcoding:
    """What requests to one service become."""

    __slots__ = ("_transcoder",)

    def __init__(self, transcoder: Transcoder | Reflected) -> None:
        self._transcoder = transcoder

    def match(self, request: Request, target: bytes) -> Match:
        """Which method ``request`` calls.

        :param target: after the route's rewrite.
        :raises GatewayError: ``no_route``, ``method_not_allowed``, ``bad_path``,
            ``unsupported_media_type`` or ``descriptors_awaited``.
        """
        path, _, query = target.partition(b"?")
        match = self._transcoder.match(request.method, path, query)
        if match is None:
            methods = self._transcoder.methods(path)
            if methods:
                allowed = {"Allow": ", ".join(methods)}
                raise GatewayError("method_not_allowed", headers=allowed)
            raise GatewayError("no_route", "The service has no method for this path.")
        if request.has_body:
            _check_body(request, raw=match.binding.raw_request)
        return match

    def as_grpc(self, request: Request, match: Match) -> Request:
        """The call that ``request`` stands for."""
        call = Request(b"POST", match.binding.path, call_head(request.headers), True)
        call.http2, call.http10 = request.http2, request.http10  # as Via has to say
        call.content_length = None
        return call

    def reply(
        self, match: Match, asked: Request, stream: DownstreamStream, request_id: bytes
    ) -> JsonReply:
        """What the response goes through on its way to ``stream``."""
        binding = match.binding
        form: ResponseStream | RawStream | None = None
        if binding.server_streaming and binding.raw_response:
            form = RawStream(binding)
        elif binding.server_streaming:
            form = ResponseStream(binding, stream_form(asked.fields.get(b"accept", b"")))
        return JsonReply(stream, binding, form, asked, request_id)

    def consumer(self, match: Match, exchange: TranscodedExchange, request: Request) -> Consumer:
        """What the client's request goes through.

        :param request: as the exchange knows it.
        """
        if not match.binding.client_streaming:
            return WholeRequest(match, exchange, request)
        kind = PiecesRequest if match.binding.raw_request else LinesRequest
        return kind(match, exchange, request)


class _Request:
    """What both kinds of requests have in common."""

    __slots__ = ("_exchange", "_has_body", "_match", "_media_type", "_request")

    def __init__(self, match: Match, exchange: TranscodedExchange, request: Request) -> None:
        self._match = match
        self._exchange = exchange
        self._request = request
        self._has_body = exchange.asked.has_body
        self._media_type = exchange.asked.fields.get(b"content-type", b"")

    def on_request_error(self, error: ProtocolError) -> None:
        self._exchange.on_request_error(error)

    def on_downstream_closed(self) -> None:
        self._exchange.on_downstream_closed()

    def pause_response(self) -> None:
        self._exchange.pause_response()

    def resume_response(self) -> None:
        self._exchange.resume_response()


class WholeRequest(_Request):
    """A call with one message: no endpoint is selected before all of it is there."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, match: Match, exchange: TranscodedExchange, request: Request) -> None:
        super().__init__(match, exchange, request)
        self._pieces: list[bytes] = []
        self._size = 0

    def start(self) -> None:
        if not self._has_body:
            self.on_end([])

    def on_data(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > MAX_LINE:
            detail = f"A message may have {MAX_LINE} bytes."
            self._exchange.give_up(GatewayError("body_too_large", detail))

    def on_end(self, trailers: Headers) -> None:
        try:
            message = self._match.request_message(b"".join(self._pieces), self._media_type)
        except GatewayError as error:
            self._exchange.give_up(error)
            return
        self._request.complete = True
        self._exchange.start()
        self._exchange.on_data(frame(message))
        self._exchange.on_end([])


class LinesRequest(_Request):
    """A call with a stream of messages, each sent on as soon as its line is there."""

    __slots__ = ("_lines",)

    def __init__(self, match: Match, exchange: TranscodedExchange, request: Request) -> None:
        super().__init__(match, exchange, request)
        self._lines = RequestLines(match)

    def start(self) -> None:
        self._exchange.start()
        if not self._has_body:
            self._end([])

    def on_data(self, data: bytes) -> None:
        try:
            messages = self._lines.feed(data)
        except GatewayError as error:
            self._exchange.give_up(error)
            return
        if messages:
            self._exchange.on_data(b"".join(map(frame, messages)))

    def on_end(self, trailers: Headers) -> None:
        try:
            messages = self._lines.end()
        except GatewayError as error:
            self._exchange.give_up(error)
            return
        self._end(messages)

    def _end(self, messages: list[bytes]) -> None:
        if messages:
            self._exchange.on_data(b"".join(map(frame, messages)))
        self._request.complete = True
        self._exchange.on_end([])


class PiecesRequest(_Request):
    """A call with a stream of ``google.api.HttpBody``: each piece of the body, as it comes, is one.

    There is one message at least, for path and query say something too.
    """

    __slots__ = ("_begun",)

    def __init__(self, match: Match, exchange: TranscodedExchange, request: Request) -> None:
        super().__init__(match, exchange, request)
        self._begun = False

    def start(self) -> None:
        self._exchange.start()
        if not self._has_body:
            self.on_end([])

    def on_data(self, data: bytes) -> None:
        try:
            message = self._match.request_message(data, self._media_type)
        except GatewayError as error:
            self._exchange.give_up(error)
            return
        self._begun = True
        self._exchange.on_data(frame(message))

    def on_end(self, trailers: Headers) -> None:
        if not self._begun:
            self.on_data(b"")
        if self._begun:  # else it has been given up
            self._request.complete = True
            self._exchange.on_end([])


def _check_body(request: Request, *, raw: bool) -> None:
    """:raises GatewayError: ``unsupported_media_type``.

    :param raw: it may be anything, but it has to be that: no field says how it is compressed.

    What a page may send anywhere without asking, such as a form, is no JSON: a browser's cookies
    would go with it (Fetch, "CORS-safelisted request-header").
    """
    media_type = request.fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_json = media_type in _JSON_TYPES or media_type.endswith(b"+json")
    if media_type and not is_json and not raw:
        raise GatewayError("unsupported_media_type")
    if request.fields.get(b"content-encoding", b"identity").lower() != b"identity":
        raise GatewayError("unsupported_media_type", "Send the body as it is, not compressed.")


_JSON_TYPES = (b"application/json", b"application/x-ndjson", b"application/jsonl")
