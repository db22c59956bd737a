"""What the parsers make of bytes: a request, a response, or the reason why it is neither."""

from __future__ import annotations

from typing import Final

from siger_gateway.http1.headers import Headers

NO_TRAILERS: Final[Headers] = []
"""Shared by all messages without trailers: never changed, only replaced."""


class ProtocolError(Exception):
    """The peer broke HTTP. ``reason`` is a key of ``errors.REASONS``; ``detail`` may be shown."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Message:
    """What requests and responses share: fields, and a body that arrives in pieces."""

    __slots__ = ("_chunks", "complete", "fields", "headers", "trailers")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.fields = dict(headers)
        self.trailers = NO_TRAILERS
        self.complete = False
        self._chunks: list[bytes] | None = None

    def take_body(self) -> bytes:
        """What has arrived of the body since the last call, in one piece; may be empty."""
        chunks = self._chunks
        if chunks is None:
            return b""
        self._chunks = None
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def append(self, data: bytes) -> None:
        if self._chunks is None:
            self._chunks = [data]
        else:
            self._chunks.append(data)

    @property
    def has_body_waiting(self) -> bool:
        return self._chunks is not None


class Request(Message):
    """A request whose head has been parsed.

    ``content_length`` is None when the body is chunked, 0 when there is none.
    ``path`` is the target up to the ``?``; both are exactly the bytes that the client sent.
    ``upgrade`` is the protocol that the client would like to go on with, None for nearly all.
    """

    __slots__ = ("content_length", "http10", "keep_alive", "method", "path", "target", "upgrade")

    def __init__(self, method: bytes, target: bytes, headers: Headers, keep_alive: bool) -> None:
        # As in Message.__init__, without the call: this runs for every request.
        self.headers = headers
        self.fields = dict(headers)
        self.trailers = NO_TRAILERS
        self.complete = False
        self._chunks = None
        self.method = method
        self.target = target
        query = target.find(b"?")
        self.path = target if query < 0 else target[:query]
        self.http10 = False
        self.keep_alive = keep_alive
        self.content_length: int | None = 0
        self.upgrade: bytes | None = None

    @property
    def has_body(self) -> bool:
        return self.content_length != 0

    def __repr__(self) -> str:
        state = "complete" if self.complete else "receiving"
        # Without the query, which may hold secrets: whoever logs an object logs this.
        return f"<Request {self.method.decode()} {self.path.decode('latin-1')} {state}>"


class Response(Message):
    """A response whose head has been parsed. ``until_close``: only the end of the connection
    tells the end of the body (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ("http10", "keep_alive", "status", "until_close")

    def __init__(self, status: int, headers: Headers, keep_alive: bool) -> None:
        Message.__init__(self, headers)
        self.status = status
        self.keep_alive = keep_alive
        self.http10 = False
        self.until_close = False

    def __repr__(self) -> str:
        return f"<Response {self.status} {'complete' if self.complete else 'receiving'}>"
