"""What clients may say in HTTP/2, and what they must hear: RFC 9113 section by section, and the
groups of ``h2spec``, as data. ``test_http2.py`` plays each twice: in pieces, and byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack

from siger_gateway.http2.faults import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from siger_gateway.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FIELDS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.protocol.http2_peer import (
    HELLO,
    SETTINGS_ACK,
    Fields,
    block,
    data,
    frame,
    get,
    goaway,
    head,
    post,
    priority,
    request,
    reset,
    settings,
    window,
)

GOES_ON = -1


@dataclass(frozen=True, slots=True)
class ServerCase:
    """Pieces that a client sends; between any two, the services answer.

    :param code: of the GOAWAY that ends the connection; ``GOES_ON``: there is none.
    :param statuses: stream -> status of the response.
    :param resets: stream -> code of the gateway's RST_STREAM.
    """

    section: str
    name: str
    sent: tuple[bytes, ...]
    code: int = GOES_ON
    statuses: dict[int, int] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


def taken(section: str, name: str, *sent: bytes, statuses: dict[int, int]) -> ServerCase:
    """Every stream is answered so, and the connection goes on."""
    return ServerCase(section, name, (HELLO, *sent), statuses=statuses)


def ignored(section: str, name: str, *sent: bytes) -> ServerCase:
    return ServerCase(section, name, (HELLO, *sent))


def reset_with(
    code: int, section: str, name: str, *sent: bytes, stream: int = 1, status: int = 0
) -> ServerCase:
    """The stream, and nothing else, ends with a RST_STREAM."""
    statuses = {stream: status} if status else {}
    return ServerCase(section, name, (HELLO, *sent), statuses=statuses, resets={stream: code})


def ended_with(
    code: int, section: str, name: str, *sent: bytes, statuses: dict[int, int] | None = None
) -> ServerCase:
    """The connection ends with a GOAWAY."""
    return ServerCase(section, name, (HELLO, *sent), code, statuses or {})


def malformed(section: str, name: str, fields: Fields) -> ServerCase:
    """Answered 400, and reset: no service hears of it."""
    return ServerCase(section, name, (HELLO, head(1, fields)), GOES_ON, {1: 400}, {1: NO_ERROR})


def malformed_body(section: str, name: str, *sent: bytes, code: int = NO_ERROR) -> ServerCase:
    return ServerCase(section, name, (HELLO, *sent), GOES_ON, {1: 400}, {1: code})


def padded(length: int, content: bytes, padding: int | None = None) -> bytes:
    return bytes([length]) + content + bytes(length if padding is None else padding)


OPEN = post(1, b"/wait")
"""A stream that is open on both sides."""
HALF = get(1, b"/wait")
"""One that the client has closed on its side."""
DONE = get(1)
"""One that is closed on both sides, once the services have answered."""

PREFACES = [
    ServerCase("3.4", "the preface and SETTINGS in pieces", (PREFACE[:3], PREFACE[3:], HELLO[24:])),
    ServerCase("3.4", "a preface that is none", (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",), 1),
    ServerCase("3.4", "a preface that ends otherwise", (PREFACE[:-2] + b"xx" + settings(),), 1),
    ServerCase("3.4", "PING in place of SETTINGS", (PREFACE + frame(PING, 0, 0, bytes(8)),), 1),
    ServerCase("3.4", "HEADERS in place of SETTINGS", (PREFACE + get(1),), 1),
    ServerCase("3.4", "WINDOW_UPDATE in place of SETTINGS", (PREFACE + window(0, 1),), 1),
    ServerCase("3.4", "an acknowledgement in place of SETTINGS", (PREFACE + SETTINGS_ACK,), 1),
    ServerCase("3.4", "an unknown frame in place of SETTINGS", (PREFACE + frame(99, 0, 0),), 1),
    ServerCase("3.4", "an empty SETTINGS frame", (HELLO,)),
]

FRAMES = [
    taken("4.1", "a frame of an unknown type", frame(0x16, 0, 0, b"x") + DONE, statuses={1: 200}),
    taken("4.1", "unknown flags", frame(PING, 0xFE, 0, bytes(8)) + DONE, statuses={1: 200}),
    taken(
        "4.1",
        "the reserved bit of a stream id",
        frame(HEADERS, END_STREAM | END_HEADERS, 0x80000001, block(request())),
        statuses={1: 200},
    ),
    taken(
        "4.2", "DATA of 16,384 bytes", post(1) + data(1, bytes(16384), ends=True), statuses={1: 200}
    ),
    ended_with(FRAME_SIZE_ERROR, "4.2", "DATA of 16,385 bytes", OPEN, data(1, bytes(16385))),
    ended_with(
        FRAME_SIZE_ERROR,
        "4.2",
        "HEADERS larger than a frame may be",
        frame(HEADERS, 5, 1, bytes(16385)),
    ),
    ended_with(
        FRAME_SIZE_ERROR, "4.2", "an unknown frame that is too large", frame(9, 0, 1, b"", 16385)
    ),
    ended_with(
        COMPRESSION_ERROR, "4.3", "an index beyond the table", frame(HEADERS, 5, 1, b"\xff\xff\x00")
    ),
    ended_with(
        PROTOCOL_ERROR,
        "4.3",
        "PRIORITY within a header block",
        head(1, request(), whole=False) + priority(1),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "4.3",
        "HEADERS within a header block of another stream",
        head(1, request(), whole=False) + get(3),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "4.3",
        "an unknown frame within a header block",
        head(1, request(), whole=False) + frame(0x16, 0, 1),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "4.3",
        "PING within a header block",
        head(1, request(), whole=False) + frame(PING, 0, 0, bytes(8)),
    ),
]

STATES = [
    ended_with(PROTOCOL_ERROR, "5.1", "idle: DATA", data(1, b"x")),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: RST_STREAM", reset(1)),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: WINDOW_UPDATE", window(1, 100)),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: WINDOW_UPDATE by 0", window(1, 0)),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: CONTINUATION", frame(CONTINUATION, 4, 1, block(request()))),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: DATA on a stream of the server's", data(2, b"x")),
    ended_with(FRAME_SIZE_ERROR, "5.1", "idle: PRIORITY of a wrong length", frame(PRIORITY, 0, 1, bytes(4))),
    taken("5.1", "idle: PRIORITY", priority(1) + DONE, statuses={1: 200}),
    reset_with(STREAM_CLOSED, "5.1", "half-closed: DATA", HALF, data(1, b"x")),
    reset_with(STREAM_CLOSED, "5.1", "half-closed: HEADERS", HALF, head(1, [(b"a", b"b")])),
    reset_with(PROTOCOL_ERROR, "5.1", "half-closed: WINDOW_UPDATE by 0", HALF, window(1, 0)),
    ignored("5.1", "half-closed: WINDOW_UPDATE", HALF, window(1, 1)),
    ignored("5.1", "half-closed: PRIORITY", HALF, priority(1)),
    ignored("5.1", "half-closed: RST_STREAM", HALF, reset(1)),
    ended_with(PROTOCOL_ERROR, "5.1", "half-closed: CONTINUATION", HALF, frame(CONTINUATION, 4, 1, block([(b"a", b"b")]))),
    reset_with(STREAM_CLOSED, "5.1", "closed by both: DATA", DONE, data(1, b"x"), status=200),
    ended_with(STREAM_CLOSED, "5.1", "closed by both: HEADERS", DONE, get(1), statuses={1: 200}),
    taken("5.1", "closed by both: RST_STREAM", DONE, reset(1), statuses={1: 200}),
    taken("5.1", "closed by both: WINDOW_UPDATE", DONE, window(1, 1), statuses={1: 200}),
    taken("5.1", "closed by both: PRIORITY", DONE, priority(1), statuses={1: 200}),
    reset_with(STREAM_CLOSED, "5.1", "reset by the client: DATA", OPEN, reset(1), data(1, b"x")),
    ended_with(STREAM_CLOSED, "5.1", "reset by the client: HEADERS", OPEN, reset(1), get(1)),
    ignored("5.1", "reset by the client: RST_STREAM", OPEN, reset(1), reset(1)),
    taken("5.1", "reset by the client, and another stream goes on", OPEN + get(3), reset(1), statuses={3: 200}),
    malformed_body("5.1", "reset by the gateway: DATA and trailers that crossed",
        head(1, request(b" "), ends=False), data(1, b"x"), head(1, [(b"a", b"b")])),
    malformed_body("5.1", "reset by the gateway: RST_STREAM that crossed", head(1, request(b" ")), reset(1)),
    ended_with(PROTOCOL_ERROR, "5.1.1", "an even stream id", get(2)),
    ended_with(PROTOCOL_ERROR, "5.1.1", "stream id 0", get(0)),
    ended_with(STREAM_CLOSED, "5.1.1", "a stream id below one that has been used", get(5), get(3), statuses={5: 200}),
    taken("5.1.1", "stream ids with gaps", get(1), get(9), get(77), statuses={1: 200, 9: 200, 77: 200}),
    ended_with(PROTOCOL_ERROR, "5.1.1", "DATA on an id above all used", DONE, data(3, b"x"), statuses={1: 200}),
    reset_with(REFUSED_STREAM, "5.1.2", "one stream more than allowed",
        b"".join(get(number, b"/wait") for number in range(1, 259, 2)), stream=257),
    taken("5.1.2", "as many streams as allowed, and others after them",
        b"".join(get(number) for number in range(1, 257, 2)), get(257), statuses={1: 200, 255: 200, 257: 200}),
    ended_with(PROTOCOL_ERROR, "5.3.1", "HEADERS that depend on themselves",
        frame(HEADERS, 5 | PRIORITY_FIELDS, 1, pack(">LB", 1, 1) + block(request()))),
    reset_with(PROTOCOL_ERROR, "5.3.1", "PRIORITY that depends on itself", HALF, priority(1, 1)),
    taken("5.3.1", "HEADERS with priority fields",
        frame(HEADERS, 5 | PRIORITY_FIELDS, 1, pack(">LB", 0, 1) + block(request())), statuses={1: 200}),
    taken("5.5", "unknown frames on a stream", OPEN + frame(0xF0, 0xFF, 1, b"?") + get(3), statuses={3: 200}),
    taken("5.5", "an unknown setting", settings((0x99, 7)) + DONE, statuses={1: 200}),
]  # fmt: skip

DATA_AND_HEADERS = [
    ended_with(PROTOCOL_ERROR, "6.1", "DATA on stream 0", data(0, b"x")),
    taken("6.1", "padded DATA", post(1, b"/", (b"content-length", b"3")),
        frame(DATA, PADDED | END_STREAM, 1, padded(200, b"abc")), statuses={1: 200}),
    taken("6.1", "DATA of nothing but padding", post(1, b"/", (b"content-length", b"0")),
        frame(DATA, PADDED | END_STREAM, 1, padded(9, b"")), statuses={1: 200}),
    ended_with(PROTOCOL_ERROR, "6.1", "padding as long as the payload", OPEN, frame(DATA, PADDED, 1, padded(3, b"", 2))),
    ended_with(FRAME_SIZE_ERROR, "6.1", "padded DATA without the padding's length", OPEN, frame(DATA, PADDED, 1)),
    taken("6.2", "padded HEADERS", frame(HEADERS, 5 | PADDED, 1, padded(30, block(request()))), statuses={1: 200}),
    taken("6.2", "HEADERS with padding and priority",
        frame(HEADERS, 5 | PADDED | PRIORITY_FIELDS, 1, padded(9, bytes(5) + block(request()))), statuses={1: 200}),
    ended_with(PROTOCOL_ERROR, "6.2", "HEADERS with more padding than there is",
        frame(HEADERS, 5 | PADDED, 1, b"\xff" + block(request()))),
    ended_with(FRAME_SIZE_ERROR, "6.2", "HEADERS too short for priority", frame(HEADERS, 5 | PRIORITY_FIELDS, 1, bytes(4))),
    ended_with(PROTOCOL_ERROR, "6.3", "PRIORITY on stream 0", priority(0)),
    reset_with(FRAME_SIZE_ERROR, "6.3", "PRIORITY of a wrong length", HALF, frame(PRIORITY, 0, 1, bytes(6))),
    ended_with(PROTOCOL_ERROR, "6.4", "RST_STREAM on stream 0", reset(0)),
    ended_with(FRAME_SIZE_ERROR, "6.4", "RST_STREAM of a wrong length", OPEN, frame(RST_STREAM, 0, 1, bytes(3))),
    ignored("6.4", "RST_STREAM with an unknown code", OPEN, reset(1, 0xDEADBEEF)),
    ended_with(PROTOCOL_ERROR, "6.6", "PUSH_PROMISE", OPEN, frame(PUSH_PROMISE, 4, 1, pack(">L", 2) + block(request()))),
    ended_with(PROTOCOL_ERROR, "6.10", "CONTINUATION on stream 0", head(1, request(), whole=False) + frame(CONTINUATION, 4, 0)),
    ended_with(PROTOCOL_ERROR, "6.10", "CONTINUATION of another stream", head(1, request(), whole=False) + frame(CONTINUATION, 4, 3)),
    ended_with(PROTOCOL_ERROR, "6.10", "CONTINUATION behind a whole block", get(1, b"/wait") + frame(CONTINUATION, 4, 1)),
    ended_with(PROTOCOL_ERROR, "6.10", "CONTINUATION behind DATA", OPEN, data(1, b"x") + frame(CONTINUATION, 4, 1)),
    ended_with(PROTOCOL_ERROR, "6.10", "CONTINUATION behind the last one",
        head(1, request(b"/wait"), whole=False) + frame(CONTINUATION, 4, 1) + frame(CONTINUATION, 4, 1)),
    ended_with(PROTOCOL_ERROR, "6.10", "DATA in place of CONTINUATION", head(1, request(), whole=False) + data(1, b"x")),
    taken("6.10", "a block in many CONTINUATIONs",
        frame(HEADERS, END_STREAM, 1)
        + b"".join(frame(CONTINUATION, 0, 1, bytes([byte])) for byte in block(request()))
        + frame(CONTINUATION, END_HEADERS, 1), statuses={1: 200}),
    taken("6.10", "trailers with CONTINUATION", post(1), data(1, b"x"),
        frame(HEADERS, END_STREAM, 1) + frame(CONTINUATION, 4, 1, block([(b"a", b"b")])), statuses={1: 200}),
]  # fmt: skip

CONNECTION = [
    ended_with(PROTOCOL_ERROR, "6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1)),
    ended_with(FRAME_SIZE_ERROR, "6.5", "SETTINGS of a wrong length", frame(SETTINGS, 0, 0, bytes(5))),
    ended_with(FRAME_SIZE_ERROR, "6.5", "an acknowledgement with settings", frame(SETTINGS, ACK, 0, bytes(6))),
    ended_with(PROTOCOL_ERROR, "6.5.2", "ENABLE_PUSH 2", settings((2, 2))),
    ignored("6.5.2", "ENABLE_PUSH 1", settings((2, 1))),
    ended_with(FLOW_CONTROL_ERROR, "6.5.2", "INITIAL_WINDOW_SIZE 2^31", settings((4, 1 << 31))),
    ended_with(PROTOCOL_ERROR, "6.5.2", "MAX_FRAME_SIZE 16,383", settings((5, 16383))),
    ended_with(PROTOCOL_ERROR, "6.5.2", "MAX_FRAME_SIZE 2^24", settings((5, 1 << 24))),
    ignored("6.5.2", "MAX_FRAME_SIZE 2^24-1", settings((5, (1 << 24) - 1))),
    taken("6.5.2", "HEADER_TABLE_SIZE 0", settings((1, 0)), DONE, get(3), statuses={1: 200, 3: 200}),
    taken("6.5.2", "the table's size there and back", settings((1, 0)) + settings((1, 4096)), DONE, statuses={1: 200}),
    taken("6.5.2", "MAX_HEADER_LIST_SIZE 1, which is advice", settings((6, 1)), DONE, statuses={1: 200}),
    ended_with(PROTOCOL_ERROR, "6.7", "PING on a stream", frame(PING, 0, 1, bytes(8))),
    ended_with(FRAME_SIZE_ERROR, "6.7", "PING of a wrong length", frame(PING, 0, 0, bytes(7))),
    ignored("6.7", "an acknowledgement of a PING that was not sent", frame(PING, ACK, 0, b"invented")),
    ignored("6.7", "an acknowledgement as if a drain had begun", frame(PING, ACK, 0, b"sigerend")),
    ended_with(PROTOCOL_ERROR, "6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8))),
    ended_with(FRAME_SIZE_ERROR, "6.8", "GOAWAY of a wrong length", frame(GOAWAY, 0, 0, bytes(7))),
    taken("6.8", "GOAWAY while a response is awaited", goaway() + DONE, statuses={1: 200}),
    ended_with(PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE of the connection by 0", window(0, 0)),
    reset_with(PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE of a stream by 0", OPEN, window(1, 0)),
    ended_with(FRAME_SIZE_ERROR, "6.9", "WINDOW_UPDATE of a wrong length", frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    ended_with(FLOW_CONTROL_ERROR, "6.9.1", "the connection's window above 2^31-1", window(0, (1 << 31) - 1)),
    reset_with(FLOW_CONTROL_ERROR, "6.9.1", "a stream's window above 2^31-1", OPEN, window(1, (1 << 31) - 1)),
    ignored("6.9.1", "windows of exactly 2^31-1", OPEN, window(1, (1 << 31) - 65536), window(0, (1 << 31) - 65536)),
    ended_with(FLOW_CONTROL_ERROR, "6.9.2", "a stream's window above 2^31-1 by SETTINGS",
        OPEN, window(1, 10), settings((4, (1 << 31) - 1))),
    reset_with(FLOW_CONTROL_ERROR, "6.9.1", "more DATA than the stream's window",
        head(1, request(b"/h2", method=b"POST"), ends=False), b"".join(data(1, bytes(16384)) for _ in range(5))),
]  # fmt: skip


def without(*names: bytes) -> Fields:
    return [one for one in request() if one[0] not in names]


MALFORMED = [
    malformed("8.1.1", "no pseudo-headers", [(b"host", b"a")]),
    malformed("8.1.1", "no fields at all", []),
    malformed("8.3", "an unknown pseudo-header", [*request(), (b":test", b"x")]),
    malformed("8.3", "a pseudo-header of responses", [*request(), (b":status", b"200")]),
    malformed("8.3", "a pseudo-header behind a field", [*without(b":path"), (b"a", b"b"), (b":path", b"/")]),
    malformed("8.3", "a pseudo-header twice", [*request(), (b":path", b"/")]),
    malformed("8.3.1", ":method is missing", without(b":method")),
    malformed("8.3.1", ":method is empty", request(method=b"")),
    malformed("8.3.1", ":method that is no token", request(method=b"GET /x")),
    malformed("8.3.1", ":method with a line break", request(method=b"GET\r\n")),
    malformed("8.3.1", ":method that HTTP/1.1 would not be taken with", request(method=b"FOO")),
    malformed("8.3.1", ":method in lower case", request(method=b"get")),
    malformed("8.3.1", ":method PRI", request(method=b"PRI")),
    malformed("8.3.1", ":scheme is missing", without(b":scheme")),
    malformed("8.3.1", ":scheme is empty", request(scheme=b"")),
    malformed("8.3.1", ":scheme that is neither", request(scheme=b"ftp")),
    malformed("8.3.1", ":scheme with a whole URI", request(scheme=b"http://evil/?")),
    malformed("8.3.1", ":path is missing", without(b":path")),
    malformed("8.3.1", ":path is empty", request(b"")),
    malformed("8.3.1", ":path without slash", request(b"x")),
    malformed("8.3.1", ":path that is a URI", request(b"http://evil/")),
    malformed("8.3.1", ":path * of GET", request(b"*")),
    malformed("8.3.1", ":path with a space", request(b"/ HTTP/1.1")),
    malformed("8.3.1", ":path with a line break", request(b"/\r\nx: y")),
    malformed("8.3.1", ":path with a fragment", request(b"/#x")),
    malformed("8.3.1", ":path with NUL", request(b"/\0")),
    malformed("8.3.1", ":path with a byte above ASCII", request(b"/\xff")),
    malformed("8.3.1", "neither :authority nor Host", without(b":authority")),
    malformed("8.3.1", ":authority is empty", request(authority=b"")),
    malformed("8.3.1", "userinfo in :authority", request(authority=b"user@a")),
    malformed("8.3.1", ":authority with a path", request(authority=b"a/b")),
    malformed("8.3.1", ":authority with a line break", request(authority=b"a\r\nx: y")),
    malformed("8.3.1", "Host that says something else", request(b"/", (b"host", b"b"))),
    malformed("8.3.1", "two Hosts", [*without(b":authority"), (b"host", b"a"), (b"host", b"a")]),
    malformed("8.5", "CONNECT", [(b":method", b"CONNECT"), (b":authority", b"a:1")]),
    malformed("8.5", "CONNECT with a path", request(method=b"CONNECT")),
    malformed("8.2.1", "a name in upper case", request(b"/", (b"X-A", b"b"))),
    malformed("8.2.1", "a name with a space", request(b"/", (b"x a", b"b"))),
    malformed("8.2.1", "a name with a colon", request(b"/", (b"x:a", b"b"))),
    malformed("8.2.1", "a name with a line break", request(b"/", (b"x\r\nhost", b"b"))),
    malformed("8.2.1", "an empty name", request(b"/", (b"", b"b"))),
    malformed("8.2.1", "a name with a byte above ASCII", request(b"/", (b"x\xe9", b"b"))),
    malformed("8.2.1", "a value with LF", request(b"/", (b"a", b"b\nc: d"))),
    malformed("8.2.1", "a value with CR", request(b"/", (b"a", b"b\rc"))),
    malformed("8.2.1", "a value with CR LF", request(b"/", (b"a", b"b\r\nc: d"))),
    malformed("8.2.1", "a value with NUL", request(b"/", (b"a", b"b\0"))),
    malformed("8.2.1", "a value that begins with a space", request(b"/", (b"a", b" b"))),
    malformed("8.2.1", "a value that ends with a tab", request(b"/", (b"a", b"b\t"))),
    malformed("8.2.2", "Connection", request(b"/", (b"connection", b"keep-alive"))),
    malformed("8.2.2", "Proxy-Connection", request(b"/", (b"proxy-connection", b"close"))),
    malformed("8.2.2", "Keep-Alive", request(b"/", (b"keep-alive", b"5"))),
    malformed("8.2.2", "Transfer-Encoding", request(b"/", (b"transfer-encoding", b"chunked"))),
    malformed("8.2.2", "Upgrade", request(b"/", (b"upgrade", b"h2c"))),
    malformed("8.2.2", "TE that is not trailers", request(b"/", (b"te", b"trailers, gzip"))),
    malformed("8.1.1", "Content-Length without DATA", request(b"/", (b"content-length", b"1"))),
    malformed("8.1.1", "Content-Length twice", request(b"/", *[(b"content-length", b"0")] * 2)),
    malformed("8.1.1", "Content-Length with a sign", request(b"/", (b"content-length", b"+0"))),
    malformed("8.1.1", "Content-Length of a list", request(b"/", (b"content-length", b"0, 0"))),
    ServerCase("10.1.1", "another expectation",
        (HELLO, head(1, request(b"/", (b"expect", b"200-maybe")))), GOES_ON, {1: 417}, {1: NO_ERROR}),
    ServerCase("10.5.1", "more fields than are taken",
        (HELLO, head(1, request(b"/", *[(b"a", b"b")] * 130))), GOES_ON, {1: 431}, {1: NO_ERROR}),
    ServerCase("10.5.1", "larger fields than are taken",
        (HELLO, head(1, request(b"/", (b"a", bytes(13000).replace(b"\0", b"x"))))), GOES_ON, {1: 431}, {1: NO_ERROR}),
    ServerCase("8.1.1", "a Content-Length above the limit",
        (HELLO, post(1, b"/", (b"content-length", b"100001"))), GOES_ON, {1: 413}, {1: NO_ERROR}),
]  # fmt: skip

BODIES = [
    malformed_body("8.1.1", "less DATA than Content-Length",
        post(1, b"/", (b"content-length", b"3")), data(1, b"ab", ends=True)),
    malformed_body("8.1.1", "more DATA than Content-Length",
        post(1, b"/", (b"content-length", b"3")), data(1, b"abcd", ends=True)),
    malformed_body("8.1.1", "more DATA than Content-Length, in several frames",
        post(1, b"/", (b"content-length", b"3")), data(1, b"ab"), data(1, b"cd")),
    malformed_body("8.1.1", "less DATA than Content-Length, and trailers",
        post(1, b"/", (b"content-length", b"3")), data(1, b"ab"), head(1, [(b"a", b"b")])),
    reset_with(PROTOCOL_ERROR, "8.1.1", "DATA where Content-Length is 0",
        post(1, b"/wait", (b"content-length", b"0")), data(1, b"x")),
    taken("8.1.1", "Content-Length 0, and an empty DATA frame",
        post(1, b"/", (b"content-length", b"0")) + data(1, ends=True), statuses={1: 200}),
    taken("8.1.1", "Content-Length 0, and an empty DATA frame, of a request for HTTP/2",
        post(1, b"/x", (b"content-length", b"0")), data(1, ends=True), get(3), statuses={3: 200}),
    taken("8.1", "a body in many frames", post(1), *[data(1, b"x")] * 20, data(1, ends=True), statuses={1: 200}),
    taken("8.1", "trailers", post(1), data(1, b"x"), head(1, [(b"a", b"b")]), statuses={1: 200}),
    taken("8.1", "trailers without fields", post(1), data(1, b"x"), head(1, []), statuses={1: 200}),
    taken("8.1", "trailers without a body", post(1), head(1, [(b"a", b"b")]), statuses={1: 200}),
    malformed_body("8.1", "trailers that do not end the stream", post(1), head(1, [(b"a", b"b")], ends=False)),
    malformed_body("8.1", "trailers with a pseudo-header", post(1), head(1, [(b":path", b"/x")])),
    malformed_body("8.1", "trailers with a name in upper case", post(1), head(1, [(b"A", b"b")])),
    malformed_body("8.1", "trailers with Transfer-Encoding", post(1), head(1, [(b"transfer-encoding", b"x")])),
    reset_with(ENHANCE_YOUR_CALM, "10.5.1", "trailers that are too large", post(1, b"/wait"),
        head(1, [(b"a", b"b")] * 200)),
    reset_with(NO_ERROR, "8.1", "an answer before the body has come", post(1, b"/early"), status=200),
    reset_with(NO_ERROR, "8.1", "an answer before the body, which goes on coming",
        post(1, b"/early"), data(1, b"x"), data(1, b"x", ends=True), status=200),
    taken("8.1", "HEAD", head(1, request(method=b"HEAD")), statuses={1: 200}),
    taken("8.1", "a response without content", get(1, b"/none"), statuses={1: 204}),
    taken("8.1", "a response in chunks, with trailers", get(1, b"/chunks"), statuses={1: 200}),
    taken("8.3.1", "OPTIONS *", head(1, request(b"*", method=b"OPTIONS")), statuses={1: 204}),
    taken("8.3.1", "Host in place of :authority", head(1, [*without(b":authority"), (b"host", b"a")]), statuses={1: 200}),
    taken("8.3.1", "Host that says the same", head(1, request(b"/", (b"host", b"a"))), statuses={1: 200}),
    taken("8.2.2", "TE: trailers", head(1, request(b"/", (b"te", b"trailers"))), statuses={1: 200}),
    taken("8.2.3", "a cookie in pieces", head(1, request(b"/", (b"cookie", b"a=1"), (b"cookie", b"b=2"))), statuses={1: 200}),
    taken("8.1", "an empty value", head(1, request(b"/", (b"a", b""))), statuses={1: 200}),
]  # fmt: skip


def blocks(*fragments: bytes) -> bytes:
    """Requests whose header blocks are these bytes."""
    return b"".join(frame(HEADERS, 5, 1 + 2 * number, one) for number, one in enumerate(fragments))


PSEUDO = b"\x82\x86\x84\x41\x01a"
""":method GET, :scheme http, :path /, and :authority, which enters the table."""

HPACK = [
    taken("7541 6.1", "fields of both tables", blocks(PSEUDO, b"\x82\x86\x84\xbe"), statuses={1: 200, 3: 200}),
    taken("7541 5.2", "Huffman's code", blocks(b"\x82\x86\x84\x41\x81\x1f"), statuses={1: 200}),
    taken("7541 6.2.3", "a literal never indexed", blocks(PSEUDO + b"\x10\x01a\x01b"), statuses={1: 200}),
    ended_with(COMPRESSION_ERROR, "7541 2.3.3", "an index beyond both tables", blocks(PSEUDO + b"\xbf")),
    ended_with(COMPRESSION_ERROR, "7541 6.1", "index 0", blocks(PSEUDO + b"\x80")),
    ended_with(COMPRESSION_ERROR, "7541 4.2", "an update of the table's size at the end", blocks(PSEUDO + b"\x20")),
    ended_with(COMPRESSION_ERROR, "7541 6.3", "an update of the table's size above the limit", blocks(b"\x3f\xe2\x1f" + PSEUDO)),
    taken("7541 6.3", "updates of the table's size at the beginning", blocks(b"\x20\x3f\xe1\x1f" + PSEUDO), statuses={1: 200}),
    ended_with(COMPRESSION_ERROR, "7541 4.3", "what has left the table", blocks(PSEUDO, b"\x20\x82\x86\x84\xbe"), statuses={1: 200}),
    ended_with(COMPRESSION_ERROR, "7541 5.2", "Huffman padding of more than 7 bits", blocks(PSEUDO + b"\x00\x01a\x82\x1f\xff\xff")),
    ended_with(COMPRESSION_ERROR, "7541 5.2", "Huffman padding of zeros", blocks(PSEUDO + b"\x00\x01a\x81\x18")),
    ended_with(COMPRESSION_ERROR, "7541 5.2", "Huffman's EOS", blocks(PSEUDO + b"\x00\x01a\x84\xff\xff\xff\xfc")),
    ended_with(COMPRESSION_ERROR, "7541 5.2", "a string longer than the block", blocks(PSEUDO + b"\x00\x01a\x05b")),
    ended_with(COMPRESSION_ERROR, "7541 5.1", "an integer without end", blocks(PSEUDO + b"\xff" + b"\xff" * 20)),
    ended_with(COMPRESSION_ERROR, "7541 5.1", "a block that ends in an integer", blocks(PSEUDO + b"\xff")),
    ended_with(COMPRESSION_ERROR, "7541 2.3.3", "a fault in a block of a refused stream",
        b"".join(get(number, b"/wait") for number in range(1, 257, 2)), frame(HEADERS, 5, 257, b"\xbf")),
    ended_with(COMPRESSION_ERROR, "7541 2.3.3", "a fault in trailers", post(1, b"/wait"), frame(HEADERS, 5, 1, b"\xbf")),
]  # fmt: skip

CASES = [
    *PREFACES,
    *FRAMES,
    *STATES,
    *DATA_AND_HEADERS,
    *CONNECTION,
    *MALFORMED,
    *BODIES,
    *HPACK,
]
