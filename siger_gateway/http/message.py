"""What the parsers make of bytes: a request, a response, or the reason why it is neither."""

from __future__ import annotations

from typing import Final

from siger_gateway.http.headers import Headers

NO_TRAILERS: Final[Headers] = []
"""Shared by all messages without trailers: never changed, only replaced."""


class ProtocolError(Exception):
    """The peer broke HTTP. ``reason`` is a key of ``errors.REASONS``; ``detail`` may be shown."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Message:
    """What requests and responses share: fields, and a body that arrives in pieces.

    ``lines`` are the fields as they came, each up to its CR, where the head could be taken apart so
    (see ``plain``): then they need not be written anew for the next hop.
    """

    __slots__ = ("_chunks", "complete", "headers", "lines", "trailers")

    headers: Headers
    lines: list[bytes] | None
    trailers: Headers
    complete: bool
    _chunks: list[bytes] | None

    def lines_without(self, drop: frozenset[bytes]) -> bytes:
        """``lines`` but for the fields that are named in ``drop``, without the last CR LF."""
        lines, headers = self.lines, self.headers
        assert lines is not None
        # strict would be a third of the time of all this.
        kept = [line for line, field in zip(lines, headers) if field[0] not in drop]  # noqa: B905
        return b"\n".join(kept)[:-1]

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

    __slots__ = (
        "content_length",
        "fields",
        "http2",
        "http10",
        "keep_alive",
        "method",
        "path",
        "target",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        keep_alive: bool,
        lines: list[bytes] | None = None,
    ) -> None:
        self.headers = headers
        self.lines = lines
        self.fields = dict(headers)
        self.trailers = NO_TRAILERS
        self.complete = False
        self._chunks = None
        self.method = method
        self.target = target
        query = target.find(b"?")
        self.path = target if query < 0 else target[:query]
        self.http10 = False
        self.http2 = False
        self.keep_alive = keep_alive
        self.content_length: int | None = 0
        self.upgrade: bytes | None = None

    def replace(self, name: bytes, value: bytes) -> None:
        """Another value for the fields of this name: the one way to change what is forwarded."""
        self.fields[name] = value
        self.headers = [(key, value if key == name else old) for key, old in self.headers]
        self.lines = None  # they say something else now

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

    __slots__ = ("_fields", "http2", "http10", "keep_alive", "status", "until_close")

    def __init__(
        self, status: int, headers: Headers, keep_alive: bool, lines: list[bytes] | None = None
    ) -> None:
        self.headers = headers
        self.lines = lines
        self.trailers = NO_TRAILERS
        self.complete = False
        self._chunks = None
        self._fields: dict[bytes, bytes] | None = None
        self.status = status
        self.keep_alive = keep_alive
        self.http10 = False
        self.http2 = False
        self.until_close = False

    @property
    def fields(self) -> dict[bytes, bytes]:
        """``dict(headers)``; made when it is asked for, which most responses never are."""
        if self._fields is None:
            self._fields = dict(self.headers)
        return self._fields

    def __repr__(self) -> str:
        return f"<Response {self.status} {'complete' if self.complete else 'receiving'}>"
