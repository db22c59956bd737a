"""Header coding alone: microseconds of one core for a header block, beside the library ``hpack``.

    python -m benchmarks.hpack

The blocks are those of gRPC calls of 13 fields (11 that every call repeats, and a request id and a
``traceparent`` of its own) as two kinds of client write them: *indexed*, where every field enters
the dynamic table, also the two that never come again (grpc-core, Go, nghttp2), and *static*, where
none does (nginx). Each figure is the best of several rounds, as the others measure other processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

import hpack

from siger_gateway.http.headers import Headers
from siger_gateway.http2 import huffman
from siger_gateway.http2.hpack_decoder import HeaderDecoder
from siger_gateway.http2.hpack_encoder import HeaderEncoder

BLOCKS: Final = 2000
"""For each round: enough that the dynamic table evicts and every memory is full."""
ROUNDS: Final = 7

MAX_LIST_BYTES: Final = 65536
MAX_FIELDS: Final = 128

REPEATED: Final[Headers] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/orders.v1.Orders/Create"),
    (b":authority", b"orders.example.com:8080"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"grpc-python/1.66.1 grpc-c/43.0.0 (linux; chttp2)"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
    (b"authorization", b"Bearer 0123456789abcdef0123456789abcdef"),
    (b"x-tenant", b"blue"),
    (b"accept-encoding", b"identity"),
]


class Decoder(Protocol):
    def __call__(self, block: bytes, /) -> object: ...


def changing(number: int) -> Headers:
    """The fields of call ``number``."""
    unique = f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
    request_id = f"{unique[:8]}-{unique[8:12]}-{unique[12:16]}-{unique[16:20]}-{unique[20:]}"
    trace = f"00-{unique}-{unique[:16]}-01"
    return [*REPEATED, (b"x-request-id", request_id.encode()), (b"traceparent", trace.encode())]


def ours() -> Decoder:
    decoder = HeaderDecoder()
    return lambda block: decoder.decode(block, MAX_LIST_BYTES, MAX_FIELDS)


def theirs() -> Decoder:
    decoder = hpack.Decoder()
    return lambda block: decoder.decode(block, raw=True)


def best(round_of: Callable[[], Callable[[int], object]]) -> float:
    """Microseconds for a call, in the best round. ``round_of`` prepares a round, unmeasured."""
    figures: list[float] = []
    for _ in range(ROUNDS):
        call = round_of()
        before = time.process_time()
        for number in range(BLOCKS):
            call(number)
        figures.append(time.process_time() - before)
    return min(figures) / BLOCKS * 1e6


def decoding(blocks: list[bytes], new: Callable[[], Decoder]) -> float:
    def prepare() -> Callable[[int], object]:
        decode = new()
        huffman._remembered.clear()
        for block in blocks[:-BLOCKS]:
            decode(block)
        measured = blocks[-BLOCKS:]
        return lambda number: decode(measured[number])

    # What the loop itself takes is taken off.
    return best(prepare) - best(lambda: lambda number: blocks[number])


def encoding(lists: list[Headers], encode: Callable[[Headers], bytes]) -> float:
    return best(lambda: lambda number: encode(lists[number])) - best(
        lambda: lambda number: lists[number]
    )


def indexed(lists: list[Headers], huffman_coded: bool) -> list[bytes]:
    encoder = hpack.Encoder()
    return [encoder.encode(headers, huffman=huffman_coded) for headers in lists]


def main() -> None:
    same = [REPEATED] * (BLOCKS + 100)
    different = [changing(number) for number in range(BLOCKS + 100)]
    encoder = HeaderEncoder()
    cases = {
        "11 fields, the same, indexed": indexed(same, True),
        "11 fields, the same, static": [encoder.encode(headers) for headers in same],
        "13 fields, 2 new, indexed, Huffman": indexed(different, True),
        "13 fields, 2 new, indexed, plain": indexed(different, False),
        "13 fields, 2 new, static": [encoder.encode(headers) for headers in different],
    }
    print(f"{'decode':38} {'bytes':>6} {'ours':>8} {'hpack':>8}   µs a block")
    for name, blocks in cases.items():
        figures = decoding(blocks, ours), decoding(blocks, theirs)
        print(f"{name:38} {len(blocks[-1]):6} {figures[0]:8.2f} {figures[1]:8.2f}")

    print(f"{'encode':38} {'bytes':>6} {'ours':>8} {'hpack':>8}   µs a block")
    for name, lists in {"11 fields, the same": same, "13 fields, 2 new": different}.items():
        figures = encoding(lists, encoder.encode), encoding(lists, hpack.Encoder().encode)
        length = len(encoder.encode(lists[-1]))
        print(f"{name:38} {length:6} {figures[0]:8.2f} {figures[1]:8.2f}")


if __name__ == "__main__":
    main()
