"""What a path means, in one place, so that routes and services see the same one.

- Percent-encoded unreserved characters equal themselves (RFC 3986 section 6.2.2.2): ``/%61dmin``
  matches as ``/admin``. Every other encoding stays, with capital digits (section 6.2.2.1): ``%2F``
  is data, not a separator. Where a service that decodes first would be asked for something that
  another route guards, ``other_readings`` tell.
- Empty segments do not count: ``//admin`` matches as ``/admin``.
- Dot segments, plain or encoded, with or without a ``;parameter``, are refused: clients resolve
  them before sending (RFC 3986 section 6.2.2.3), so only somebody who wants out sends them. Also
  where an encoded slash or backslash would make one, for a service that decodes first.
- A backslash is refused: it is no character of a URI (RFC 3986 section 2), and for some services
  it is a slash.
- Case counts.

This is for matching. What is forwarded are the client's own bytes; ``rewrite`` moves them.
"""

from __future__ import annotations

from typing import Final

_HEX: Final = b"0123456789abcdefABCDEF"
PERCENT: Final = ord("%")
SEMICOLON: Final = ord(";")
BACKSLASH: Final = ord("\\")
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)

_DECODED: Final = (
    *((b"%%%02X" % ord(character), character.encode()) for character in "/;:@!$&'()*+,="),
    (b"%5C", b"/"),
)
"""Encodings of characters that a path may hold as they are (RFC 3986 section 3.3)."""


def is_plain(path: bytes) -> bool:
    """Whether ``path`` is certainly its own normal form: the case of nearly every request."""
    # For a single byte, ``in`` with its code is several times faster than with a bytes object.
    return (
        PERCENT not in path
        and BACKSLASH not in path
        and path.find(b"/.") < 0
        and path.find(b"//") < 0
    )


def normalize(path: bytes) -> bytes | None:
    """The path to match by, or None when it must be refused."""
    if b"%" in path:
        first, *rest = path.split(b"%")
        parts = [first]
        for part in rest:
            code = part[:2]
            if len(code) != 2 or code.translate(None, _HEX):
                return None
            byte = int(code, 16)
            if byte < 0x20 or byte == 0x7F:
                return None
            plain = byte in _UNRESERVED
            parts.append((bytes((byte,)) if plain else b"%" + code.upper()) + part[2:])
        path = b"".join(parts)
    if b"\\" in path or _climbs(path):
        return None
    return _without_empty(path)


def other_readings(path: bytes) -> set[bytes]:
    """What else ``path`` may mean to a service: one that decodes before it looks for segments (Go's
    ServeMux, Starlette), takes a backslash for a slash, or drops parameters (servlets).

    :param path: in normal form.
    """
    decoded = path
    for code, character in _DECODED:
        decoded = decoded.replace(code, character)
    plain = b"/".join([segment.partition(b";")[0] for segment in decoded.split(b"/")])
    return {_without_empty(decoded), _without_empty(plain)} - {path}


def _without_empty(path: bytes) -> bytes:
    """``path`` without empty segments; a slash at its end stays."""
    if b"//" not in path:
        return path
    last = b"/" if path.endswith(b"/") else b""
    path = b"/" + b"/".join(filter(None, path.split(b"/")))
    return path if path == b"/" else path + last


def _climbs(path: bytes) -> bool:
    """Whether a segment is a dot segment, also for a service that decodes first."""
    if b"%" in path:
        path = path.lower().replace(b"%2f", b"/").replace(b"%5c", b"/").replace(b"%3b", b";")
    return any(
        segment[:1] == b"." and segment.partition(b";")[0] in (b".", b"..")
        for segment in path.split(b"/")
    )
