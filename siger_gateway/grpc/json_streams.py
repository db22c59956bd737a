"""Streams of messages as JSON: lines (NDJSON) both ways, or server-sent events to the client; and
those that are bodies as they are.

A response's status has been sent by the time that a stream fails, so the failure is the last thing
in it: a line that holds nothing but ``error``, or an event named ``error``, with the same problem
document that an ordinary response would be. A stream of events that is complete ends with an event
named ``end``: without one a browser would come back and make the call again.
"""

from __future__ import annotations

from typing import Final, Literal

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.http_body import UNKNOWN
from siger_gateway.grpc.transcoding import Binding, Match

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of a line of a request: as many as a message may have (``framing.MAX_MESSAGE``)."""

_NDJSON: Final = b"application/x-ndjson"
_EVENTS: Final = b"text/event-stream"


class RequestLines:
    """A streaming request: each line of the body is a message; empty lines are none.

    Path and query belong to every one of them.
    """

    def __init__(self, match: Match, limit: int = MAX_LINE) -> None:
        self._match = match
        self._limit = limit
        self._rest = bytearray()
        self._line = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The serialized messages that ``data`` completes.

        :raises GatewayError: as ``Match.request_message``, its detail with the line's number;
            ``body_too_large`` for a line past the limit.
        """
        self._rest += data
        if b"\n" not in data:
            self._check(len(self._rest))
            return []
        *lines, rest = self._rest.split(b"\n")
        self._check(max(map(len, [*lines, rest])))
        self._rest = rest
        return [message for line in lines for message in self._message(bytes(line))]

    def end(self) -> list[bytes]:
        """The message of a last line that nothing ended; errors as ``feed``."""
        return self._message(bytes(self._rest))

    def _message(self, line: bytes) -> list[bytes]:
        self._line += 1
        if not line.strip():
            return []
        try:
            return [self._match.request_message(line)]
        except GatewayError as error:
            detail = f"Line {self._line}: {error.detail}"
            raise GatewayError(error.reason, detail, errors=error.errors) from None

    def _check(self, length: int) -> None:
        if length > self._limit:
            raise GatewayError("body_too_large", f"A line may hold {self._limit} bytes.")


class RawStream:
    """A streaming response of ``google.api.HttpBody``: the type is that of its first message."""

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self.content_type: bytes = b""

    def feed(self, message: bytes) -> bytes:
        """As ``ResponseStream.feed``."""
        media_type, data = self._binding.response_content(message)
        self.content_type = self.content_type or media_type
        return data

    def end(self) -> bytes:
        """As ``ResponseStream.end``."""
        self.content_type = self.content_type or UNKNOWN  # there was no message
        return b""

    def fail(self, problem: bytes) -> None:
        """None: there is no place for it, the response has to break off."""


class ResponseStream:
    """A streaming response.

    :param form: see ``stream_form``.
    """

    def __init__(self, binding: Binding, form: Literal["lines", "events"]) -> None:
        self._binding = binding
        self._is_lines = form == "lines"
        self.content_type: bytes = _NDJSON if self._is_lines else _EVENTS

    def feed(self, message: bytes) -> bytes:
        """The bytes for the next message.

        :raises GatewayError: ``upstream_message``.
        """
        document = self._binding.response_json(message)
        return document + b"\n" if self._is_lines else b"data: " + document + b"\n\n"

    def end(self) -> bytes:
        """The bytes after the last message of a call that has succeeded."""
        return b"" if self._is_lines else b"event: end\ndata: {}\n\n"

    def fail(self, problem: bytes) -> bytes:
        """The bytes that end a call that has failed.

        :param problem: a problem document (RFC 9457) in JSON.
        """
        if self._is_lines:
            return b'{"error":' + problem + b"}\n"
        return b"event: error\ndata: " + problem + b"\n\n"


def stream_form(accept: bytes) -> Literal["lines", "events"]:
    """Events for those who ask for them, as browsers' ``EventSource`` does; otherwise lines."""
    types = [item.partition(b";")[0].strip().lower() for item in accept.split(b",")]
    return "events" if _EVENTS in types else "lines"
