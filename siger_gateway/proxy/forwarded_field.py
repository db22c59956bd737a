"""The ``Forwarded`` field (RFC 7239): one element for each hop, read and written.

    Forwarded: for=192.0.2.43;proto=https;host=example.com, for="[2001:db8::1]"

An address of IPv6 stands in brackets and, because of its colons, in quotes (section 6), and so does
a host with a port. Reading is strict: what is not valid as a whole is worth nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from siger_gateway.http.headers import is_token

Element = dict[bytes, bytes]
"""What one proxy said: lower-case parameter -> value without quotes."""

_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")


def node(address: str) -> bytes:
    """The value of ``for``; ``unknown`` when there is no address (section 6.2)."""
    if not address:
        return b"unknown"
    return b'"[%b]"' % address.encode() if ":" in address else address.encode()


def element(address: str, scheme: bytes, host: bytes) -> bytes:
    """What the gateway says: who asked it, how, and for which host.

    :param host: a valid ``Host``, or empty.
    """
    said = b"for=%b;proto=%b" % (node(address), scheme)
    if not host:
        return said
    # A valid host holds neither quotes nor backslashes; what else is no token stands in quotes.
    return said + (b";host=%b" if is_token(host) else b';host="%b"') % host


def parse(values: Iterable[bytes]) -> list[Element]:
    """The elements of all ``Forwarded`` fields of a message, in order; none when not valid."""
    elements = []
    for part in _split(b",".join(values), b","):
        found: Element = {}
        for pair in _split(part, b";"):
            name, equals, value = pair.strip().partition(b"=")
            name = name.lower()
            unquoted = _unquoted(value)
            if not equals or not is_token(name) or unquoted is None or name in found:
                return []
            found[name] = unquoted
        elements.append(found)
    return elements


def _unquoted(value: bytes) -> bytes | None:
    """The text of a token or quoted-string (RFC 9110 section 5.6.4); None when it is neither."""
    if is_token(value):
        return value
    if len(value) < 2 or value[0] != _QUOTE or value[-1] != _QUOTE:
        return None
    inner = value[1:-1]
    return None if b'"' in inner or b"\\" in inner else inner  # nothing here needs an escape


def _split(text: bytes, separator: bytes) -> Iterator[bytes]:
    """``text`` at each separator outside of quotes; empty parts are left out."""
    start, quoted, escaped = 0, False, False
    for index, byte in enumerate(text):
        if escaped:
            escaped = False
        elif byte == _BACKSLASH and quoted:
            escaped = True
        elif byte == _QUOTE:
            quoted = not quoted
        elif byte == separator[0] and not quoted:
            if text[start:index].strip():
                yield text[start:index]
            start = index + 1
    if text[start:].strip():
        yield text[start:]
