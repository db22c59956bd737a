"""Requests of clients in HTTP/2: bodies and trailers, and header blocks (RFC 9113 8, RFC 7541)."""

from __future__ import annotations

from siger_gateway.http2.faults import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    NO_ERROR,
    PROTOCOL_ERROR,
)
from siger_gateway.http2.frames import (
    HEADERS,
)
from tests.protocol.http2_cases import (
    ended_with,
    malformed_body,
    reset_with,
    taken,
)
from tests.protocol.http2_peer import (
    Fields,
    data,
    frame,
    get,
    head,
    post,
    request,
)


def without(*names: bytes) -> Fields:
    return [one for one in request() if one[0] not in names]


BODIES = [
    malformed_body(
        "8.1.1",
        "less DATA than Content-Length",
        post(1, b"/", (b"content-length", b"3")),
        data(1, b"ab", ends=True),
    ),
    malformed_body(
        "8.1.1",
        "more DATA than Content-Length",
        post(1, b"/", (b"content-length", b"3")),
        data(1, b"abcd", ends=True),
    ),
    malformed_body(
        "8.1.1",
        "more DATA than Content-Length, in several frames",
        post(1, b"/", (b"content-length", b"3")),
        data(1, b"ab"),
        data(1, b"cd"),
    ),
    malformed_body(
        "8.1.1",
        "less DATA than Content-Length, and trailers",
        post(1, b"/", (b"content-length", b"3")),
        data(1, b"ab"),
        head(1, [(b"a", b"b")]),
    ),
    reset_with(
        PROTOCOL_ERROR,
        "8.1.1",
        "DATA where Content-Length is 0",
        post(1, b"/wait", (b"content-length", b"0")),
        data(1, b"x"),
    ),
    taken(
        "8.1.1",
        "Content-Length 0, and an empty DATA frame",
        post(1, b"/", (b"content-length", b"0")) + data(1, ends=True),
        statuses={1: 200},
    ),
    reset_with(
        NO_ERROR,
        "8.1.1",
        "Content-Length 0, and an empty DATA frame behind the answer",
        post(1, b"/", (b"content-length", b"0")),
        data(1, ends=True),
        status=200,
    ),
    taken(
        "8.1",
        "a body in many frames",
        post(1),
        *[data(1, b"x")] * 20,
        data(1, ends=True),
        statuses={1: 200},
    ),
    taken("8.1", "trailers", post(1), data(1, b"x"), head(1, [(b"a", b"b")]), statuses={1: 200}),
    taken("8.1", "trailers without fields", post(1), data(1, b"x"), head(1, []), statuses={1: 200}),
    taken("8.1", "trailers without a body", post(1), head(1, [(b"a", b"b")]), statuses={1: 200}),
    malformed_body(
        "8.1", "trailers that do not end the stream", post(1), head(1, [(b"a", b"b")], ends=False)
    ),
    malformed_body("8.1", "trailers with a pseudo-header", post(1), head(1, [(b":path", b"/x")])),
    malformed_body("8.1", "trailers with a name in upper case", post(1), head(1, [(b"A", b"b")])),
    malformed_body(
        "8.1", "trailers with Transfer-Encoding", post(1), head(1, [(b"transfer-encoding", b"x")])
    ),
    reset_with(
        ENHANCE_YOUR_CALM,
        "10.5.1",
        "trailers that are too large",
        post(1, b"/wait"),
        head(1, [(b"a", b"b")] * 200),
    ),
    reset_with(
        NO_ERROR, "8.1", "an answer before the body has come", post(1, b"/early"), status=200
    ),
    reset_with(
        NO_ERROR,
        "8.1",
        "an answer before the body, which goes on coming",
        post(1, b"/early"),
        data(1, b"x"),
        data(1, b"x", ends=True),
        status=200,
    ),
    taken("8.1", "HEAD", head(1, request(method=b"HEAD")), statuses={1: 200}),
    taken("8.1", "a response without content", get(1, b"/none"), statuses={1: 204}),
    taken("8.1", "a response in chunks, with trailers", get(1, b"/chunks"), statuses={1: 200}),
    taken("8.3.1", "OPTIONS *", head(1, request(b"*", method=b"OPTIONS")), statuses={1: 204}),
    taken(
        "8.3.1",
        "Host in place of :authority",
        head(1, [*without(b":authority"), (b"host", b"a")]),
        statuses={1: 200},
    ),
    taken(
        "8.3.1",
        "Host that says the same",
        head(1, request(b"/", (b"host", b"a"))),
        statuses={1: 200},
    ),
    taken("8.2.2", "TE: trailers", head(1, request(b"/", (b"te", b"trailers"))), statuses={1: 200}),
    taken(
        "8.2.3",
        "a cookie in pieces",
        head(1, request(b"/", (b"cookie", b"a=1"), (b"cookie", b"b=2"))),
        statuses={1: 200},
    ),
    taken("8.1", "an empty value", head(1, request(b"/", (b"a", b""))), statuses={1: 200}),
]


def blocks(*fragments: bytes) -> bytes:
    """Requests whose header blocks are these bytes."""
    return b"".join(frame(HEADERS, 5, 1 + 2 * number, one) for number, one in enumerate(fragments))


PSEUDO = b"\x82\x86\x84\x41\x01a"
""":method GET, :scheme http, :path /, and :authority, which enters the table."""

HPACK = [
    taken(
        "7541 6.1",
        "fields of both tables",
        blocks(PSEUDO, b"\x82\x86\x84\xbe"),
        statuses={1: 200, 3: 200},
    ),
    taken("7541 5.2", "Huffman's code", blocks(b"\x82\x86\x84\x41\x81\x1f"), statuses={1: 200}),
    taken(
        "7541 6.2.3",
        "a literal never indexed",
        blocks(PSEUDO + b"\x10\x01a\x01b"),
        statuses={1: 200},
    ),
    ended_with(
        COMPRESSION_ERROR, "7541 2.3.3", "an index beyond both tables", blocks(PSEUDO + b"\xbf")
    ),
    ended_with(COMPRESSION_ERROR, "7541 6.1", "index 0", blocks(PSEUDO + b"\x80")),
    ended_with(
        COMPRESSION_ERROR,
        "7541 4.2",
        "an update of the table's size at the end",
        blocks(PSEUDO + b"\x20"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 6.3",
        "an update of the table's size above the limit",
        blocks(b"\x3f\xe2\x1f" + PSEUDO),
    ),
    taken(
        "7541 6.3",
        "updates of the table's size at the beginning",
        blocks(b"\x20\x3f\xe1\x1f" + PSEUDO),
        statuses={1: 200},
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 4.3",
        "what has left the table",
        blocks(PSEUDO, b"\x20\x82\x86\x84\xbe"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 5.2",
        "Huffman padding of more than 7 bits",
        blocks(PSEUDO + b"\x00\x01a\x82\x1f\xff\xff"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 5.2",
        "Huffman padding of zeros",
        blocks(PSEUDO + b"\x00\x01a\x81\x18"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 5.2",
        "Huffman's EOS",
        blocks(PSEUDO + b"\x00\x01a\x84\xff\xff\xff\xfc"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 5.2",
        "a string longer than the block",
        blocks(PSEUDO + b"\x00\x01a\x05b"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 5.1",
        "an integer without end",
        blocks(PSEUDO + b"\xff" + b"\xff" * 20),
    ),
    ended_with(
        COMPRESSION_ERROR, "7541 5.1", "a block that ends in an integer", blocks(PSEUDO + b"\xff")
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 2.3.3",
        "a fault in a block of a refused stream",
        b"".join(get(number, b"/wait") for number in range(1, 257, 2)),
        frame(HEADERS, 5, 257, b"\xbf"),
    ),
    ended_with(
        COMPRESSION_ERROR,
        "7541 2.3.3",
        "a fault in trailers",
        post(1, b"/wait"),
        frame(HEADERS, 5, 1, b"\xbf"),
    ),
]


CASES = [*BODIES, *HPACK]
