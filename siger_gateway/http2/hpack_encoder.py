"""Fields become header blocks (RFC 7541), and always the same bytes: one encoder serves all.

It lets no field enter the dynamic table (nor does nginx; Envoy does). So there is nothing to
keep for a connection, and a field that has been written once is a dictionary look-up from then on:
a block of 13 fields, two of them new each time, takes 1.3 µs, where the library ``hpack`` takes 47.

What it costs is bytes: 370 for that block, where repeated fields in the dynamic table would make it
108. They hardly cost time: a send and a receive on the loopback take 7.5 µs for either, reading
them in our own decoder 5.5 µs instead of 3.3 (compiled by mypyc 1.0 instead of 0.6), and a line of
1 Gbit/s is busy for 2 µs more. An encoder with a table for each connection would write no faster,
so it would be worth its state only where bandwidth is scarce. Huffman's code would make it 276
bytes, but takes our decoder longer to read than all the rest. (``python -m benchmarks.hpack``)
"""

from __future__ import annotations

from typing import Final

from siger_gateway.http.headers import Header, Headers
from siger_gateway.http2.static_table import FIELD_INDEX, NAME_INDEX

SENSITIVE: Final = frozenset(
    {b"authorization", b"proxy-authorization", b"set-cookie", b"x-api-key", b"api-key"}
)
"""Names of fields that are written as never indexed (RFC 7541 section 7.1.3): whoever can make a
peer index a guess beside them could see by the lengths whether it was right."""

GUESSABLE: Final = 20
"""Bytes: a shorter ``cookie`` is sensitive, too; a longer one is too much to guess (as nghttp2)."""

UNIQUE: Final = (b"x-request-id", b"traceparent", b"grpc-timeout")
"""Names of fields whose values are not remembered: they hardly ever come again."""

NEVER_INDEXED: Final = 0x10
"""The bits that begin a literal which is never indexed (section 6.2.3)."""

MAX_REMEMBERED: Final = 4096
"""Fields, up to 4 MiB; then they are learned anew."""
NEVER_INDEXED_BYTES: Final = 1024 * 1024
"""Of fields that peers have sent as never indexed: many more than can be on their way through."""
NOTE_OVERHEAD: Final = 256
"""Bytes that each of them takes beside its own."""
LONGEST_REMEMBERED: Final = 512
"""Bytes of a field that is remembered, as in ``http1.plain``."""


def _integer(value: int, prefix: int, pattern: int) -> bytes:
    """``value`` after the bits of ``pattern`` (section 5.1). ``prefix``: its ones."""
    if value < prefix:
        return bytes((pattern | value,))
    octets = bytearray((pattern | prefix,))
    value -= prefix
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


_LENGTHS: Final = [_integer(length, 0x7F, 0) for length in range(256)]


def _string(value: bytes) -> bytes:
    length = len(value)
    return (_LENGTHS[length] if length < 256 else _integer(length, 0x7F, 0)) + value


def _literal(name: bytes, value: bytes, pattern: int) -> bytes:
    """Without indexing (section 6.2.2), ``pattern`` 0, or ``NEVER_INDEXED``."""
    index = NAME_INDEX.get(name)
    if index is None:
        return b"%c%b%b" % (pattern, _string(name), _string(value))
    return _integer(index, 0x0F, pattern) + _string(value)


_UNIQUE_NAMES: Final = {name: b"\x00" + _string(name) for name in UNIQUE}
"""Name -> literal without indexing, up to its value."""


def _is_sensitive(name: bytes, value: bytes) -> bool:
    return name in SENSITIVE or (name == b"cookie" and len(value) < GUESSABLE)


class _Fields(dict[Header, bytes]):
    """A field -> its representation.

    :param kept: those that stay when all others are learned anew.
    :param unsaid: names of fields that are left out.
    """

    def __init__(self, kept: dict[Header, bytes], unsaid: frozenset[bytes]) -> None:
        super().__init__()
        self._kept = kept
        self._unsaid = unsaid

    def __missing__(self, field: Header) -> bytes:
        name, value = field
        unique = _UNIQUE_NAMES.get(name)
        if unique is not None:
            return unique + _string(value)
        index = FIELD_INDEX.get(field)
        if name in self._unsaid:
            encoded = b""
        elif _is_sensitive(name, value):
            encoded = _literal(name, value, NEVER_INDEXED)
        elif index is not None:
            encoded = _integer(index, 0x7F, 0x80)
        else:
            encoded = _literal(name, value, 0)
        if len(name) + len(value) <= LONGEST_REMEMBERED:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
                self.update(self._kept)
            self[field] = encoded
        return encoded


class HeaderEncoder:
    """Encodes header blocks, for any number of connections.

    :param unsaid: names of fields that are left out, as HTTP/2 says them in another way. To look
        each up anyway and find that it is nothing costs less than to leave it out beforehand.
    """

    __slots__ = ("_fields", "_never_indexed", "_never_indexed_bytes", "_unsaid")

    def __init__(self, unsaid: frozenset[bytes] = frozenset()) -> None:
        self._unsaid = unsaid
        self._never_indexed: dict[Header, bytes] = {}
        self._never_indexed_bytes = 0
        self._fields = _Fields(self._never_indexed, unsaid)

    def encode(self, headers: Headers) -> bytes:
        """The header block of these fields, whose names are in lower case already."""
        return b"".join(map(self._fields.__getitem__, headers))

    def never_index(self, field: Header) -> bool:
        """From now on ``field`` is written as never indexed: it came so, and has to go on so (RFC
        7541 section 7.1.3). That it is the same for whoever else sends it costs the next hop some
        bytes at most; in return no message needs to say it of its fields.

        :returns: False for one that always is, or is never written.
        """
        name, value = field
        if _is_sensitive(name, value) or name in self._unsaid:
            return False
        noted = self._never_indexed
        if field not in noted:
            self._fields[field] = noted[field] = _literal(name, value, NEVER_INDEXED)
            self._never_indexed_bytes += len(noted[field]) + NOTE_OVERHEAD
            while self._never_indexed_bytes > NEVER_INDEXED_BYTES:
                oldest = next(iter(noted))
                self._never_indexed_bytes -= len(noted.pop(oldest)) + NOTE_OVERHEAD
                self._fields.pop(oldest, None)
        return True

    def __repr__(self) -> str:
        return f"<HeaderEncoder {len(self._fields)} fields remembered>"
