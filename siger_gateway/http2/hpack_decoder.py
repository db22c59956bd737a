"""Header blocks become fields (RFC 7541): one decoder for each direction of each connection.

Three things make it cheap. *One list* holds both tables, so that a field of index ``i`` is
``table[-i]`` for any ``i``::

    [oldest, ..., newest,  static 61, ..., static 1]       newest = table[-62]

A new field is inserted before the 61 static ones, the oldest leaves at the front, and an index that
is too large is an ``IndexError``, as is a byte beyond the block's end: neither is tested for.
*Strings are remembered* by their Huffman code (see ``huffman``). *Blocks are remembered* while the
table is what it was: a block that does not change the table decodes to the same fields again. A
client that lets each call's request id enter the table changes it each time; the other two count.

A block of 13 fields, two of them new each time, that enter the table, takes 7.2 µs (2.7 compiled by
mypyc), of which the Huffman code of those two is 4; the library ``hpack`` takes 40. Without Huffman
it is 3.3 (0.6) and 25; a block that comes again takes 0.1 and 19 (``python -m benchmarks.hpack``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from siger_gateway.http.headers import Header, Headers
from siger_gateway.http2 import huffman
from siger_gateway.http2.faults import HeaderListTooLarge, HpackError
from siger_gateway.http2.static_table import STATIC_FIELDS, STATIC_LENGTH

DEFAULT_TABLE_SIZE: Final = 4096
"""Bytes, until SETTINGS say otherwise (RFC 9113 section 6.5.2)."""
ENTRY_OVERHEAD: Final = 32
"""Bytes that a field counts beside its name and value (RFC 7541 section 4.1, RFC 9113 6.5.2)."""

MAX_BLOCKS: Final = 64
"""Blocks that a connection remembers: its calls' methods and variants."""
LONGEST_REMEMBERED: Final = 1024
"""Bytes of a block that is remembered: one with long literals had better use the dynamic table."""

MAX_SHIFT: Final = 28
"""An integer has at most five bytes after its prefix: up to 2^35, more than any length or index.
RFC 7541 section 5.1 wants a limit to both value and length."""

MAX_UPDATES: Final = 2
"""Updates of the table's size in a block: the smallest size since the last one, and the last
(RFC 7541 section 4.2)."""

_LARGEST_STATIC: Final = 64
"""Bytes: no field of the static table counts more."""

_STATIC: Final = list(reversed(STATIC_FIELDS))

_Known = tuple[Headers, int, frozenset[bytes] | None]
"""What a block decodes to: its fields, what they count at most, and ``never_indexed``."""


def _goes_no_further(field: Header) -> bool:
    """For who passes nothing on."""
    return False


class HeaderDecoder:
    """Decodes the header blocks of one connection, in the order of their arrival.

    :param max_table_size: bytes of the dynamic table. A connection begins with the default; what
        our SETTINGS say instead counts from their acknowledgement on (``limit_table``).
    :param never_index: is told of each field that came as never indexed, and says whether it has to
        be told of the next such one, too.
    """

    __slots__ = (
        "_blocks",
        "_largest",
        "_must_shrink_to",
        "_never_index",
        "_seen",
        "_size",
        "_table",
        "_table_limit",
        "max_table_size",
        "never_indexed",
    )

    def __init__(
        self,
        max_table_size: int = DEFAULT_TABLE_SIZE,
        never_index: Callable[[Header], bool] = _goes_no_further,
    ) -> None:
        self._never_index = never_index
        self.max_table_size = max_table_size
        """What the peer may choose at most. Changed by ``limit_table``."""
        self.never_indexed: frozenset[bytes] | None = None
        """Names of the fields in the last block that came as literals that are never indexed (RFC
        7541 section 7.1.3). None for nearly all blocks."""
        self._table: Headers = _STATIC.copy()
        self._size = 0
        self._table_limit = max_table_size
        self._must_shrink_to = max_table_size
        self._largest = _LARGEST_STATIC  # no field that was ever in the table counts more
        self._blocks: dict[bytes, _Known] = {}
        self._seen: set[int] = set()

    def limit_table(self, max_table_size: int) -> None:
        """The peer has acknowledged this SETTINGS_HEADER_TABLE_SIZE.

        If that is less than the table's size, its next block must begin with an update of the size,
        to the smallest of the limits since its last block (RFC 7541 section 4.2).
        """
        self.max_table_size = max_table_size
        self._must_shrink_to = min(self._must_shrink_to, max_table_size)
        self._blocks.clear()  # none of them may come without an update now

    def decode(self, block: bytes, max_list_bytes: int, max_fields: int) -> Headers:
        """The fields of a whole header block, i.e. of HEADERS with its CONTINUATIONs.

        The same block may give the same list object again: replace it, never change it. Work and
        memory are proportional to the length of the block, which the caller limits.

        :param max_list_bytes: limit of the sum of name, value and 32 bytes for each field.
        :raises HeaderListTooLarge: beyond the limits; the decoder may go on.
        :raises HpackError: if ``block`` is invalid; the decoder may not be used any more.
        """
        known = self._blocks.get(block) if self._blocks else None  # it takes a hash of the block
        if known is not None:
            headers, most, self.never_indexed = known
            if most <= max_list_bytes and len(headers) <= max_fields:
                return headers
        try:
            return self._decode(block, max_list_bytes, max_fields)
        except IndexError:
            raise HpackError("an index beyond the table, or a truncated block") from None

    def _decode(self, block: bytes, max_list_bytes: int, max_fields: int) -> Headers:
        if self._must_shrink_to < self._table_limit and not 0x20 <= block[0] < 0x40:
            raise HpackError("the table's size had to be updated")
        table = self._table
        headers: Headers = []
        never_indexed: set[bytes] | None = None
        must_tell = False
        literal_bytes = 0
        unchanged = True
        first = 0  # where the fields begin, after updates of the table's size
        updates = 0
        position, end = 0, len(block)
        while position < end:
            byte = block[position]
            position += 1

            if byte > 0x80:  # an indexed field (section 6.1)
                if byte < 0xFF:
                    headers.append(table[0x80 - byte])
                else:
                    index, position = _integer(block, position, 0x7F)
                    headers.append(table[-index])
                continue

            if byte >= 0x40:  # a literal that enters the table (section 6.2.1)
                prefix = 0x3F
            elif byte < 0x20:  # one that does not (sections 6.2.2 and 6.2.3)
                prefix = 0x0F
            else:
                updates += 1
                if position - 1 != first or updates > MAX_UPDATES:
                    raise HpackError("an update of the table's size in the wrong place")
                position = first = self._resize(block, byte & 0x1F, position)
                unchanged = False
                continue

            index = byte & prefix
            if index == prefix:
                if block[position] < 0x80:  # as _integer does it, without a call
                    index += block[position]
                    position += 1
                else:
                    index, position = _integer(block, position, prefix)
            if index:
                name = table[-index][0]
            elif byte == 0x80:
                raise HpackError("index 0")
            else:
                length = block[position]
                if length < 0x7F:  # as _string does it, without a call
                    stop = position + 1 + length
                    name = block[position + 1 : stop]
                    position = stop
                else:
                    name, position = _string(block, position)

            length = block[position]
            if length < 0x7F:
                stop = position + 1 + length
                value = block[position + 1 : stop]
                position = stop
            elif 0x80 <= length < 0xFF:
                stop = position + length - 0x7F
                value = huffman.decode(block[position + 1 : stop])
                position = stop
            else:
                value, position = _string(block, position)
            if position > end:
                raise HpackError("a truncated string")

            field = (name, value)
            size = len(name) + len(value) + ENTRY_OVERHEAD
            if byte >= 0x40:
                self._insert(field, size)
                unchanged = False
            elif byte >= 0x10:
                if never_indexed is None:
                    never_indexed = set()
                never_indexed.add(name)
                if self._never_index(field):
                    must_tell = True
            literal_bytes += size
            if literal_bytes > max_list_bytes:  # nothing of it will be wanted
                headers.clear()
            headers.append(field)

        most = literal_bytes + len(headers) * self._largest
        self.never_indexed = None if never_indexed is None else frozenset(never_indexed)
        if not unchanged:
            self._blocks.clear()
        if (
            len(headers) > max_fields
            or literal_bytes > max_list_bytes
            or (most > max_list_bytes and _size_of(headers) > max_list_bytes)
        ):
            raise HeaderListTooLarge
        if unchanged and not must_tell and end <= LONGEST_REMEMBERED:
            self._remember(block, (headers, most, self.never_indexed))
        return headers

    def _remember(self, block: bytes, known: _Known) -> None:
        """Keep what comes for the second time: blocks with an id in them never do."""
        fingerprint = hash(block)
        if fingerprint not in self._seen:
            if len(self._seen) >= MAX_BLOCKS:
                self._seen.clear()
            self._seen.add(fingerprint)
            return
        if len(self._blocks) >= MAX_BLOCKS:
            self._blocks.clear()
        self._blocks[block] = known

    def _insert(self, field: Header, size: int) -> None:
        """Let a field enter the table, and the oldest ones leave it for that (section 4.4).

        One that is larger than the table only empties it.
        """
        if size > self._largest:
            self._largest = size
        size += self._size
        table, limit = self._table, self._table_limit
        while size > limit and len(table) > STATIC_LENGTH:  # as _evict does it, without a call
            name, value = table.pop(0)
            size -= len(name) + len(value) + ENTRY_OVERHEAD
        if size <= limit:
            table.insert(-STATIC_LENGTH, field)
            self._size = size
        else:
            self._size = 0

    def _evict(self, size: int) -> int:
        """Remove the oldest fields until ``size`` bytes are no more than may be. What is left."""
        table, limit = self._table, self._table_limit
        while size > limit and len(table) > STATIC_LENGTH:
            name, value = table.pop(0)
            size -= len(name) + len(value) + ENTRY_OVERHEAD
        return size

    def _resize(self, block: bytes, size: int, position: int) -> int:
        """An update of the table's size (section 6.3). ``size`` are the bits of the first byte."""
        if size == 0x1F:
            size, position = _integer(block, position, 0x1F)
        if size > self.max_table_size:
            raise HpackError("a table larger than the limit")
        if self._must_shrink_to < self._table_limit and size > self._must_shrink_to:
            raise HpackError("the table's size had to be updated to the smallest limit first")
        self._must_shrink_to = self.max_table_size
        self._table_limit = size
        self._size = self._evict(self._size)
        return position

    def __repr__(self) -> str:
        entries = len(self._table) - STATIC_LENGTH
        return f"<HeaderDecoder {entries} entries, {self._size} of {self._table_limit} bytes>"


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """An integer whose prefix is all ones (section 5.1), and where it ends."""
    value, shift = prefix, 0
    while shift <= MAX_SHIFT:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise HpackError("an integer of too many bytes")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """A string literal (section 5.2), and where it ends, which may be beyond the block's end."""
    first = block[position]
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    value = block[position:end]
    return (huffman.decode(value) if first >= 0x80 else value), end


def _size_of(headers: Headers) -> int:
    return sum([len(name) + len(value) + ENTRY_OVERHEAD for name, value in headers])
