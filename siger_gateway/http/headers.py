"""Header fields as the wire carries them: pairs of bytes, names in lower case.

Names are lower-cased once, when parsed (RFC 9110 section 5.1: they are case-insensitive; HTTP/2
requires it, section 8.2 of RFC 9113), so that every look-up after that is a plain comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

Header = tuple[bytes, bytes]
Headers = list[Header]

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}
    | {b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"}
    | {b"http2-settings"}
)
"""Fields about one connection, never forwarded (RFC 9110 sections 7.6.1 and 11.7, and those in
use). ``Trailer`` is none of them: it goes with the trailers, which are forwarded."""

NEVER_DROPPED: Final = frozenset({b"host", b"content-length"})
"""Fields that ``Connection`` cannot name away: what the next hop frames and routes by."""

STEERING: Final = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"upgrade"})
"""Fields about the connection: no trailers (RFC 9110 section 6.5.1)."""

MAX_FIELDS: Final = 128
"""Header fields of a response, or its trailers: Envoy allows 100, nginx has no such limit, Apache
100. For requests it is ``limits.header_count``, with this default."""

TOKEN_CHARACTERS: Final = (
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
"""``tchar`` of RFC 9110 section 5.6.2."""

HOST_CHARACTERS: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+;="
)
"""Those of a ``reg-name`` of RFC 3986 section 3.2.2, without the comma."""

STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b" % (status, phrase)
    for status, phrase in {
        **{status: b"" for status in range(100, 600)},
        **{status.value: status.phrase.encode() for status in HTTPStatus},
    }.items()
}
"""Status -> status line. The reason phrase carries no information (RFC 9112 section 4)."""

_join_field = b": ".join


def encode_head(first_line: bytes, headers: Headers, lines: bytes = b"") -> bytes:
    """A message head with its empty line. C does the work: no Python code per field.

    :param lines: field lines that come first, without the last CR LF.
    """
    if lines:
        return b"\r\n".join([first_line, lines, *map(_join_field, headers), b"", b""])
    return b"\r\n".join([first_line, *map(_join_field, headers), b"", b""])


def connection_options(value: bytes) -> frozenset[bytes]:
    """The names that a ``Connection`` field declares hop-by-hop, in lower case."""
    return frozenset(option.strip().lower() for option in value.split(b","))


def end_to_end(headers: Headers, fields: dict[bytes, bytes], drop: frozenset[bytes]) -> Headers:
    """The fields that travel on: without ``drop`` and without those named by ``Connection``.

    :param fields: ``dict(headers)``, to see cheaply whether there is a ``Connection`` field.
    """
    options = fields.get(b"connection")
    if options is not None and (options not in _PLAIN_OPTIONS or len(fields) != len(headers)):
        for value in find_all(headers, b"connection"):
            drop = drop | (connection_options(value) - NEVER_DROPPED)
    return [header for header in headers if header[0] not in drop]


_PLAIN_OPTIONS: Final = frozenset({b"keep-alive", b"close", b"Keep-Alive", b"Close"})


def is_token(value: bytes) -> bool:
    """Whether ``value`` is a token of RFC 9110 section 5.6.2."""
    return bool(value) and not value.translate(None, TOKEN_CHARACTERS)


def is_host(value: bytes) -> bool:
    """Whether ``value`` is ``uri-host [":" port]`` (RFC 9110 section 7.2), with a host."""
    if value[:1] == b"[":
        name, bracket, rest = value[1:].partition(b"]")
        if not bracket or rest[:1] not in (b"", b":"):
            return False
        allowed, port = HOST_CHARACTERS + b":", rest[1:]
    else:
        name, _, port = value.partition(b":")
        allowed = HOST_CHARACTERS
    return bool(name) and not name.translate(None, allowed) and (not port or port.isdigit())


def find_all(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """Every value of the field ``name``, in order."""
    return [value for key, value in headers if key == name]
