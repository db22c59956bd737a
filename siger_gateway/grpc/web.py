"""gRPC-Web: calls of browsers, which see no trailers (PROTOCOL-WEB.md of grpc).

Translated to gRPC on the way in and back on the way out, while the body streams. A request differs
from gRPC in its media type only; a response also in where the trailers are:

    gRPC       head, message*, trailers (fields of the wire)
    gRPC-Web   head, message*, one frame with the flag 0x80 that holds the trailers as text

With ``application/grpc-web-text`` both bodies are base64 besides, for clients that can read only
text; it is encoded piece by piece, so there may be padding in the middle.
"""

from __future__ import annotations

import struct
from binascii import Error as BadBase64
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import PREFIX
from siger_gateway.http.headers import Headers

TRAILERS: Final = 0x80
"""The flag of the frame that holds the trailers; messages have 0 or 1 (compressed)."""

_BINARY: Final = b"application/grpc-web"
_TEXT: Final = b"application/grpc-web-text"
_CHANGED: Final = frozenset({b"content-type", b"content-length", b"accept", b"te", b"x-grpc-web"})
"""Fields of a request that are about gRPC-Web, or no longer true."""
_STATUS: Final = frozenset({b"grpc-status", b"grpc-message", b"grpc-status-details-bin"})
"""Fields that end a call, and make a head a "Trailers-Only" one."""


@dataclass(frozen=True, slots=True)
class WebCall:
    """How one call is to be translated.

    :param format: what follows the media type, such as ``b"+proto"``, or empty.
    :param sends_text: the request's body is base64.
    :param takes_text: the response's body has to be.
    """

    format: bytes
    sends_text: bool
    takes_text: bool

    def request_head(self, headers: Headers) -> Headers:
        """The fields for the service. ``te: trailers`` is what gRPC servers look for."""
        return [
            *(field for field in headers if field[0] not in _CHANGED),
            (b"content-type", b"application/grpc" + self.format),
            (b"te", b"trailers"),
        ]

    def request_body(self) -> RequestBody:
        """What makes the service's request body of the client's."""
        return _Base64Body() if self.sends_text else RequestBody()

    def response_head(self, headers: Headers) -> Headers:
        """The fields for the client.

        The status goes from the head to the trailers: other origins' pages see only those header
        fields that CORS exposes to them, and ``ResponseBody.end`` has to be told of it.
        """
        dropped = _STATUS | {b"content-type", b"content-length", b"trailer"}
        return [
            *(field for field in headers if field[0] not in dropped),
            (b"content-type", (_TEXT if self.takes_text else _BINARY) + self.format),
        ]

    def response_body(self) -> ResponseBody:
        """What makes the client's response body of the service's."""
        return _TextResponse() if self.takes_text else ResponseBody()


def web_call(content_type: bytes, accept: bytes) -> WebCall | None:
    """How to translate a request with these fields; None: it is not gRPC-Web.

    :param accept: the response has the request's form if this names neither.
    """
    sends = _dialect(content_type)
    if sends is None:
        return None
    is_text, suffix = sends
    for item in accept.split(b","):
        takes = _dialect(item)
        if takes is not None:
            return WebCall(suffix, is_text, takes[0])
    return WebCall(suffix, is_text, is_text)


def status_of_head(headers: Headers) -> Headers:
    """The fields of a "Trailers-Only" head that are its trailers; empty: it is not one."""
    fields = [field for field in headers if field[0] in _STATUS]
    return fields if any(name == b"grpc-status" for name, _ in fields) else []


class RequestBody:
    """A request body that is gRPC's already."""

    def feed(self, data: bytes) -> bytes:
        """Of the next bytes from the client, those for the service.

        :raises GatewayError: ``bad_request``.
        """
        return data

    def end(self) -> bytes:
        """What is still to be sent when the client has ended.

        :raises GatewayError: ``bad_request``: its body is not complete.
        """
        return b""


class ResponseBody:
    """A response body to which the trailers are added."""

    def __init__(self) -> None:
        self._prefix = b""  # what has come of the next message's
        self._left = 0  # bytes that the message lacks

    def feed(self, data: bytes) -> bytes:
        """Of the next bytes from the service, those for the client."""
        self._follow(data)
        return data

    @property
    def is_between_messages(self) -> bool:
        """Whether trailers may follow: within a message they would be taken for its bytes."""
        return not (self._prefix or self._left)

    def _follow(self, data: bytes) -> None:
        position, stop = 0, len(data)
        while position < stop:
            if self._left:
                taken = min(self._left, stop - position)
                self._left -= taken
                position += taken
                continue
            lacking = PREFIX - len(self._prefix)
            self._prefix += data[position : position + lacking]
            position += lacking
            if len(self._prefix) == PREFIX:
                self._left = int.from_bytes(self._prefix[1:], "big")
                self._prefix = b""

    def end(self, trailers: Headers) -> bytes:
        """The last bytes for the client.

        :param trailers: the service's, or ``status_of_head`` of a response that was only a head.
        """
        return trailers_frame(trailers)


def trailers_frame(trailers: Headers) -> bytes:
    """Trailers as the last frame: an HTTP/1 header block without the empty line, names in lower
    case."""
    block = b"".join([b"%b: %b\r\n" % field for field in trailers])
    return struct.pack(">BI", TRAILERS, len(block)) + block


class _Base64Body(RequestBody):
    """Decodes whole groups of four characters as they come in."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._rest + data if self._rest else data
        whole = len(data) & ~3
        self._rest = data[whole:]
        decoded, start = [], 0
        try:
            while start < whole:
                padding = data.find(b"=", start, whole)
                # A padded group ends one piece of base64; another may follow.
                end = whole if padding < 0 else padding // 4 * 4 + 4
                decoded.append(a2b_base64(data[start:end], strict_mode=True))
                start = end
        except BadBase64:
            raise GatewayError("bad_request", "The body is not valid base64.") from None
        return b"".join(decoded)

    def end(self) -> bytes:
        if self._rest:
            raise GatewayError("bad_request", "The body ends within a group of base64.")
        return b""


class _TextResponse(ResponseBody):
    """Encodes each piece as it comes: nothing has to wait for a third byte."""

    def feed(self, data: bytes) -> bytes:
        self._follow(data)
        return b2a_base64(data, newline=False)

    def end(self, trailers: Headers) -> bytes:
        return b2a_base64(trailers_frame(trailers), newline=False)


def _dialect(media_type: bytes) -> tuple[bool, bytes] | None:
    """Whether it is the text form, and the ``+format``; None: it is not gRPC-Web's."""
    essence = media_type.partition(b";")[0].strip().lower()
    name, plus, kind = essence.partition(b"+")
    if name not in (_BINARY, _TEXT) or (plus and not kind):
        return None
    return name == _TEXT, plus + kind
