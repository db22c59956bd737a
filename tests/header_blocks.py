"""Header blocks, written by hand: slowly, and as RFC 7541 has it in pseudo code."""

from __future__ import annotations

from siger_gateway.http.headers import Headers
from siger_gateway.http2.hpack_decoder import HeaderDecoder

PLENTY = 1_000_000


def decode(decoder: HeaderDecoder, block: bytes) -> Headers:
    return decoder.decode(block, PLENTY, PLENTY)


def integer(value: int, prefix: int, pattern: int = 0) -> bytes:
    """As section 5.1 has it, in pseudo code."""
    if value < prefix:
        return bytes([pattern | value])
    octets = [pattern | prefix]
    value -= prefix
    while value >= 128:
        octets.append(value % 128 + 128)
        value //= 128
    return bytes([*octets, value])


def literal(name: bytes, value: bytes, pattern: int = 0x40) -> bytes:
    return bytes([pattern]) + integer(len(name), 127) + name + integer(len(value), 127) + value


def update(size: int) -> bytes:
    return integer(size, 0x1F, 0x20)
