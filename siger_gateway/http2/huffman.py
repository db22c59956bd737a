"""The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).

Decoding takes a byte at a time. Between two bytes all that matters is which bits of an unfinished
code have been read: 256 possibilities, the states. For a state, a *row* says what each byte does:
which state is next, and which symbols it has finished (two at most, as no code has less than five
bits). That is one list look-up a byte, where a walk through the code takes one a bit.

All rows together take 30 ms to make and 5 MB, and text uses a fifth of them: a row is filled when
it is needed for the first time. Strings come again, too, all but ids and dates, so recent ones are
remembered.

The code is canonical, i.e. follows from the lengths alone; the tests compare it with the RFC's.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.http2.faults import HpackError

LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)  # fmt: skip
"""Bits of the code of each byte value, and of EOS, which stands last."""

END_OF_STRING: Final = 256
"""Beside an entry for each byte, a row has one for the string's end: what is wrong with it."""

LONGEST_REMEMBERED: Final = 128
"""Encoded bytes of a string that is remembered: about 170 characters."""
MAX_REMEMBERED: Final = 1024
"""Strings, up to 400 KiB; then they are learned anew. With an id in each request
that is once in a thousand requests."""

Row = list[tuple["Row", bytes]]


def _codes() -> list[str]:
    """The code of each byte value and of EOS, as characters 0 and 1."""
    codes = [""] * len(LENGTHS)
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - previous
        previous = length
        codes[symbol] = f"{code:0{length}b}"
        code += 1
    return codes


_CODES: Final = _codes()
_EOS: Final = _CODES[-1]
_SYMBOLS: Final = {code: bytes((symbol,)) for symbol, code in enumerate(_CODES[:-1])}
_PADDINGS: Final = frozenset("1" * bits for bits in range(8))

_ROOT: Final[Row] = []
_rows: Final[dict[str, Row]] = {"": _ROOT}
"""State, as the bits read of an unfinished code -> its row, empty until it is needed."""

_remembered: Final[dict[bytes, bytes]] = {}


def decode(data: bytes) -> bytes:
    """The string of which ``data`` is the code, with its padding.

    :raises HpackError: if the padding is not the beginning of EOS or is longer than 7 bits, or if
        EOS itself occurs (RFC 7541 section 5.2).
    """
    known = _remembered.get(data)
    if known is not None:
        return known
    while True:
        pieces: list[bytes] = []
        row = _ROOT
        try:
            for byte in data:
                row, piece = row[byte]
                pieces.append(piece)
            problem = row[END_OF_STRING][1]
            break
        except IndexError:  # an empty row: happens once for each
            _fill(row)
    if problem:
        raise HpackError(problem.decode())
    value = b"".join(pieces)
    if len(data) <= LONGEST_REMEMBERED:
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[data] = value
    return value


def _step(bits: str, piece: bytes, bit: str) -> tuple[str, bytes]:
    """The state after one bit more, and what has been finished up to there."""
    if bits != _EOS:  # from where nothing leads any further
        bits += bit
    symbol = _SYMBOLS.get(bits)
    return (bits, piece) if symbol is None else ("", piece + symbol)


def _fill(row: Row) -> None:
    begun = next(bits for bits, one in _rows.items() if one is row)
    ends = [(begun, b"")]
    for _ in range(8):
        ends = [_step(bits, piece, bit) for bits, piece in ends for bit in "01"]
    row.extend([(_rows.setdefault(bits, []), piece) for bits, piece in ends])
    if begun == _EOS:
        row.append((row, b"EOS in a Huffman-coded string"))
    elif begun in _PADDINGS:
        row.append((row, b""))
    else:
        row.append((row, b"a Huffman-coded string with wrong padding"))


def encode(value: bytes) -> bytes:
    """The shortest code of ``value``, padded to whole bytes."""
    bits = "".join([_CODES[byte] for byte in value])
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")
