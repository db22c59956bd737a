"""The heads of nearly all messages, taken apart by splitting them: no Python code per field.

llhttp calls back for every field, which was half of what the gateway did for a small request. Here
the lines of a head become fields by looking them up, for lines repeat: from one request to the next
of a client, and from one client to the next. A line that is new is taken apart once.

What is taken here has one meaning only: lines that end in CR LF, each a token, a colon and a space,
and a value of visible characters; and no field that steers the connection. All else is ``NotPlain``
and goes to llhttp, which stays the judge of what is valid: to be stricter here costs time, never
correctness. ``tests/unit/test_plain.py`` holds the two against each other.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.http.headers import Header, Headers, is_token

STEERING: Final = frozenset(
    {b"transfer-encoding", b"upgrade", b"expect", b"proxy-connection", b"trailer", b"keep-alive"}
)
"""Names of fields that ask for more than to be passed on."""

UNIQUE: Final = frozenset({b"x-request-id", b"traceparent"})
"""Names of fields whose lines are not remembered: they hardly ever come again."""

LONGEST_LINE: Final = 512
"""Bytes of a line that is remembered: a token, a browser's ``User-Agent``, most cookies."""
MAX_LINES: Final = 4096
"""Lines that are remembered, which take up to 4 MiB; then they are learned anew."""
MAX_NAMES: Final = 1024

SPACE: Final = ord(" ")
QUESTION_MARK: Final = ord("?")

END_OF_HEAD: Final = b"\r\n\r\n"

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

_CONTROLS: Final = bytes({*range(32), 127} - {ord("\t")})
_VISIBLE: Final = bytes(QUESTION_MARK if code in _CONTROLS else code for code in range(256))
"""Translates a value to itself, unless there is a control character in it."""

_ORIGIN_FORM: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=:@/?"
)
_TARGET: Final = bytes(code if code in _ORIGIN_FORM else SPACE for code in range(256))
"""Translates a target to itself, if all its characters may be in one (RFC 9112 section 3.2.1)."""

MAX_STATUS_LINES: Final = 256
MOST_DIGITS: Final = 18
"""Of a ``Content-Length``: so many are no number too large for anything."""


class NotPlain(Exception):
    """llhttp has to look at this message."""


class _Names(dict[bytes, bytes]):
    """A field name as it came -> in lower case."""

    def __missing__(self, name: bytes) -> bytes:
        lower = name.lower()
        if not is_token(name) or lower in STEERING:
            raise NotPlain
        if len(self) >= MAX_NAMES:
            self.clear()
        self[name] = lower
        return lower


class _Lines(dict[bytes, Header]):
    """A field line, up to its CR -> the field."""

    def __missing__(self, line: bytes) -> Header:
        name, _, value = line.partition(b": ")
        name = _names[name]
        value, cr = value[:-1], value[-1:]
        if not value or value[0] <= SPACE or value[-1] <= SPACE or cr != b"\r":
            raise NotPlain
        if value.translate(_VISIBLE) != value:
            raise NotPlain
        if name == b"connection" and value.lower() != b"keep-alive":
            raise NotPlain
        header = (name, value)
        if len(line) <= LONGEST_LINE and name not in UNIQUE:
            if len(self) >= MAX_LINES:
                self.clear()
            self[line] = header
        return header


class _StatusLines(dict[bytes, int]):
    """A status line, up to its CR -> the status, of a response that may have a body."""

    def __missing__(self, line: bytes) -> int:
        version, _, rest = line.partition(b" ")
        digits, space, reason = rest.partition(b" ")
        if version != b"HTTP/1.1" or not space or len(digits) != 3 or not digits.isdigit():
            raise NotPlain
        status = int(digits)
        if not 200 <= status <= 599 or status in (204, 304):
            raise NotPlain
        if reason[-1:] != b"\r" or reason[:-1].translate(_VISIBLE) != reason[:-1]:
            raise NotPlain
        if len(self) >= MAX_STATUS_LINES:
            self.clear()
        self[line] = status
        return status


_names: Final = _Names()
_lines: Final = _Lines()
_look_up: Final = _lines.__getitem__

status_of: Final = _StatusLines().__getitem__
"""Status line -> status; raises ``NotPlain``."""


def fields_of(lines: list[bytes]) -> Headers:
    """The fields of these lines, each up to its CR.

    :raises NotPlain: if there is any doubt about one of them.
    """
    return [*map(_look_up, lines)]


def request_line(line: bytes) -> tuple[bytes, bytes]:
    """Method and target of an HTTP/1.1 request; ``line`` up to its CR.

    :raises NotPlain: if there is any doubt about it.
    """
    words = line.split(b" ")
    if len(words) == 3:
        method, target, version = words
        if (
            version == b"HTTP/1.1\r"
            and method in METHODS
            and target.translate(_TARGET) == target
            and target[:1] == b"/"
        ):
            return method, target
    raise NotPlain


def length_of(headers: Headers) -> int:
    """``Content-Length``.

    :raises NotPlain: if there is none, or any doubt about it.
    """
    values = [value for name, value in headers if name == b"content-length"]
    if len(values) != 1:
        raise NotPlain
    value = values[0]
    if not value.isdigit() or len(value) > MOST_DIGITS or (value[:1] == b"0" and len(value) > 1):
        raise NotPlain
    return int(value)
