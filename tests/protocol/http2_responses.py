"""What services may say in HTTP/2, and what becomes of it, as data. ``test_http2_responses.py``
plays each case: a client asks, a service says its pieces.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack

from siger_gateway.http2.client_stream import MAX_INTERIM
from siger_gateway.http2.faults import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HTTP_1_1_REQUIRED,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from siger_gateway.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.protocol.http2_cases import GOES_ON, padded
from tests.protocol.http2_peer import (
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

GET = get(1, b"/h2")
HEAD = head(1, request(b"/h2", method=b"HEAD"))
UPLOAD = post(1, b"/h2")
"""A request whose body does not come."""
OK: Fields = [(b":status", b"200")]


@dataclass(frozen=True, slots=True)
class ResponseCase2:
    """:param sent: the pieces of the service, on stream 1.
    :param status: that the client gets; ``body`` all that it gets.
    :param broken: after its head the response cannot be taken for the whole.
    :param resets: stream -> code of the gateway's RST_STREAM to the service.
    :param code: of the gateway's GOAWAY to the service.
    """

    section: str
    name: str
    sent: tuple[bytes, ...]
    status: int
    body: bytes | None = None
    broken: bool = False
    asked: bytes = GET
    resets: dict[int, int] = field(default_factory=dict)
    code: int = GOES_ON
    leaves: bool = False
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"

    @property
    def is_the_last(self) -> bool:
        """Whether its connection takes no more requests."""
        refused = self.reason == "stream_refused" and "REFUSED" not in self.name
        return self.code != GOES_ON or self.leaves or refused


def passed(
    section: str,
    name: str,
    *sent: bytes,
    status: int = 200,
    body: bytes = b"",
    asked: bytes = GET,
    resets: dict[int, int] | None = None,
    leaves: bool = False,
) -> ResponseCase2:
    """The client gets all of it. ``leaves``: the connection is not used again."""
    return ResponseCase2(
        section, name, sent, status, body, False, asked, resets or {}, GOES_ON, leaves
    )


def refused(
    section: str,
    name: str,
    *sent: bytes,
    asked: bytes = GET,
    code: int = PROTOCOL_ERROR,
    reason: str = "upstream_protocol",
) -> ResponseCase2:
    """The client gets 502 in its place; the stream is reset."""
    return ResponseCase2(section, name, sent, 502, asked=asked, resets={1: code}, reason=reason)


def told(section: str, name: str, *sent: bytes, reason: str) -> ResponseCase2:
    """The service has ended the stream itself: 502 or 503 for ``reason``."""
    return ResponseCase2(section, name, sent, 503 if "refused" in reason else 502, reason=reason)


def broken(
    section: str, name: str, *sent: bytes, asked: bytes = GET, resets: dict[int, int] | None = None
) -> ResponseCase2:
    """The client has got a head, and sees that the rest does not come."""
    return ResponseCase2(section, name, sent, 200, None, True, asked, resets or {})


def ended(section: str, name: str, code: int, *sent: bytes) -> ResponseCase2:
    """GOAWAY to the service, 502 to the client."""
    return ResponseCase2(section, name, sent, 502, code=code, reason="upstream_protocol")


def ok(*fields: tuple[bytes, bytes], ends: bool = False) -> bytes:
    return head(1, [*OK, *fields], ends=ends)


def status(code: bytes, *fields: tuple[bytes, bytes], ends: bool = True) -> bytes:
    return head(1, [(b":status", code), *fields], ends=ends)


LENGTH_2 = (b"content-length", b"2")
DONE = ok(ends=True)

VALID = [
    passed("8.1", "a head that is all", DONE),
    passed("8.1", "a body", ok(), data(1, b"hi", ends=True), body=b"hi"),
    passed(
        "8.1",
        "a body in pieces, the end by itself",
        ok(),
        data(1, b"h"),
        data(1, b"i"),
        data(1, ends=True),
        body=b"hi",
    ),
    passed("8.1", "all in one piece", ok() + data(1, b"h") + data(1, b"i", ends=True), body=b"hi"),
    passed("8.1", "trailers", ok(), data(1, b"hi"), head(1, [(b"a", b"b")]), body=b"hi"),
    passed("8.1", "trailers without a body", ok(), head(1, [(b"a", b"b")])),
    passed(
        "8.1.1", "Content-Length that is true", ok(LENGTH_2), data(1, b"hi", ends=True), body=b"hi"
    ),
    passed(
        "6.1", "padded DATA", ok(LENGTH_2), frame(DATA, PADDED | 1, 1, padded(9, b"hi")), body=b"hi"
    ),
    passed(
        "6.10",
        "a head with CONTINUATION",
        frame(HEADERS, 1, 1) + frame(CONTINUATION, 4, 1, block(OK)),
    ),
    passed("8.1", "100", status(b"100", ends=False), DONE),
    passed("8.1", "103 twice", status(b"103", (b"link", b"x"), ends=False) * 2, DONE),
    passed("15.2", "many 1xx", status(b"102", ends=False) * MAX_INTERIM, DONE),
    passed("8.1.1", "the length of what HEAD does not get", ok(LENGTH_2, ends=True), asked=HEAD),
    passed("8.1.1", "the same, the end by itself", ok(LENGTH_2), data(1, ends=True), asked=HEAD),
    passed("8.1.1", "204", status(b"204"), status=204),
    passed("8.1.1", "304 with a length", status(b"304", LENGTH_2), status=304),
    passed(
        "8.1.1",
        "204 whose end comes by itself",
        status(b"204", ends=False),
        data(1, ends=True),
        status=204,
    ),
    passed("8.1", "503 is the service's to say", status(b"503"), status=503),
    passed(
        "8.1",
        "an answer before the body, and NO_ERROR",
        DONE + reset(1, NO_ERROR),
        asked=UPLOAD,
        resets={1: CANCEL},
    ),
    passed("8.1", "an answer before the body", DONE, asked=UPLOAD, resets={1: CANCEL}),
    passed("5.5", "unknown frames before it", frame(0x99, 0, 0) + frame(0x99, 7, 1, b"x"), DONE),
    passed("5.3", "PRIORITY", priority(1) + priority(7), DONE),
    passed("6.7", "PING", frame(PING, 0, 0, b"12345678"), DONE),
    passed("6.5.2", "unknown settings", settings((0x77, 1)), DONE),
    passed("6.5.2", "ENABLE_PUSH 0", settings((2, 0)), DONE),
    passed("6.5.2", "ENABLE_CONNECT_PROTOCOL", settings((8, 1)), DONE),
    passed("6.9", "WINDOW_UPDATEs", window(0, 9) + window(1, 9), DONE),
    passed("6.8", "GOAWAY that lets it through", goaway(1), DONE, leaves=True),
    passed(
        "6.8",
        "GOAWAY with the largest id, then with the last",
        goaway(2**31 - 1) + goaway(1),
        DONE,
        leaves=True,
    ),
    passed("5.1", "RST_STREAM behind the end", DONE, reset(1)),
    passed("5.1", "WINDOW_UPDATE behind the end", DONE, window(1, 5)),
]

MALFORMED = [
    refused("15.2", "1xx without end", status(b"103", ends=False) * (MAX_INTERIM + 1)),
    refused("8.1", "DATA before the head", data(1, b"x")),
    refused("8.1", "DATA between 1xx and the head", status(b"103", ends=False), data(1, b"x")),
    refused("8.1", "1xx that ends the stream", status(b"100")),
    refused("8.3.2", "no :status", head(1, [(b"a", b"b")])),
    refused("8.3.2", "no fields", head(1, [])),
    refused("8.3.2", ":status twice", status(b"200", (b":status", b"200"))),
    refused("8.3.2", ":status behind a field", head(1, [(b"a", b"b"), (b":status", b"200")])),
    refused("8.3.2", ":status that is no number", status(b"2xx")),
    refused("8.3.2", ":status of two digits", status(b"20")),
    refused("8.3.2", ":status 000", status(b"000")),
    refused("8.3.2", ":status 600", status(b"600")),
    refused("8.6", ":status 101", status(b"101", ends=False)),
    refused("8.3", "a pseudo-header of requests", ok((b":path", b"/"), ends=True)),
    refused("8.2.1", "a name in upper case", ok((b"A", b"b"), ends=True)),
    refused("8.2.1", "a value with a line break", ok((b"a", b"b\r\nc: d"), ends=True)),
    refused("8.2.1", "a value with NUL", ok((b"a", b"\0"), ends=True)),
    refused("8.2.1", "a name with a colon", ok((b"a:b", b"c"), ends=True)),
    refused("8.2.2", "Connection", ok((b"connection", b"close"), ends=True)),
    refused("8.2.2", "Transfer-Encoding", ok((b"transfer-encoding", b"chunked"), ends=True)),
    refused("8.1.1", "Content-Length twice", ok(LENGTH_2, LENGTH_2)),
    refused("8.1.1", "Content-Length that is no number", ok((b"content-length", b"two"))),
    ResponseCase2(
        "8.1.1",
        "Content-Length without DATA",
        (ok(LENGTH_2, ends=True),),
        502,
        reason="upstream_protocol",
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1.1",
        "less DATA than Content-Length",
        ok(LENGTH_2),
        data(1, b"h", ends=True),
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1.1",
        "more DATA than Content-Length",
        ok(LENGTH_2),
        data(1, b"hi!"),
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1.1",
        "DATA in answer to HEAD",
        ok(),
        data(1, b"hi", ends=True),
        asked=HEAD,
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1.1",
        "DATA in answer to HEAD, with its length",
        ok(LENGTH_2),
        data(1, b"hi", ends=True),
        asked=HEAD,
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1",
        "trailers that do not end it",
        ok(),
        head(1, [(b"a", b"b")], ends=False),
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1",
        "trailers with a pseudo-header",
        ok(),
        head(1, [(b":status", b"200")]),
        resets={1: PROTOCOL_ERROR},
    ),
    broken(
        "8.1",
        "trailers with a line break",
        ok(),
        head(1, [(b"a", b"b\n")]),
        resets={1: PROTOCOL_ERROR},
    ),
    refused(
        "10.5.1",
        "a head that is too large",
        ok(*[(b"a", b"b")] * 200, ends=True),
        reason="upstream_reset",
    ),
]

ENDS = [
    told("7", "RST_STREAM before the head", reset(1, INTERNAL_ERROR), reason="upstream_reset"),
    told(
        "7", "RST_STREAM with NO_ERROR before the head", reset(1, NO_ERROR), reason="upstream_reset"
    ),
    told(
        "7",
        "RST_STREAM with HTTP_1_1_REQUIRED",
        reset(1, HTTP_1_1_REQUIRED),
        reason="upstream_reset",
    ),
    told("8.7", "REFUSED_STREAM", reset(1, REFUSED_STREAM), reason="stream_refused"),
    broken("7", "RST_STREAM behind the head", ok(), reset(1, INTERNAL_ERROR)),
    broken("7", "RST_STREAM with NO_ERROR before the end", ok(), data(1, b"x"), reset(1, NO_ERROR)),
    ended(
        "6.6",
        "PUSH_PROMISE",
        PROTOCOL_ERROR,
        frame(PUSH_PROMISE, 4, 1, pack(">L", 2) + block(request())),
    ),
    ended("5.1.1", "HEADERS on a stream of its own", PROTOCOL_ERROR, head(2, OK)),
    ended("5.1", "HEADERS on a stream that nobody has opened", PROTOCOL_ERROR, head(3, OK)),
    ended("5.1", "DATA on a stream that nobody has opened", PROTOCOL_ERROR, data(3, b"x")),
    ended("5.1", "WINDOW_UPDATE on a stream that nobody has opened", PROTOCOL_ERROR, window(3, 1)),
    ended("5.1", "RST_STREAM on a stream that nobody has opened", PROTOCOL_ERROR, reset(3)),
    ended("6.5.2", "ENABLE_PUSH 1", PROTOCOL_ERROR, settings((2, 1))),
    ended("6.5.2", "INITIAL_WINDOW_SIZE 2^31", FLOW_CONTROL_ERROR, settings((4, 1 << 31))),
    ended("6.5", "SETTINGS of a wrong length", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, b"x")),
    ended(
        "6.5",
        "an acknowledgement with settings",
        FRAME_SIZE_ERROR,
        frame(SETTINGS, ACK, 0, bytes(6)),
    ),
    ended("6.7", "PING of a wrong length", FRAME_SIZE_ERROR, frame(PING, 0, 0, b"x")),
    ended("6.8", "GOAWAY of a wrong length", FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, b"x")),
    ended("6.9", "WINDOW_UPDATE by 0", PROTOCOL_ERROR, window(0, 0)),
    ended(
        "6.9.1", "the connection's window above 2^31-1", FLOW_CONTROL_ERROR, window(0, 2**31 - 1)
    ),
    ended(
        "6.9", "WINDOW_UPDATE of a wrong length", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, b"x")
    ),
    ended("6.4", "RST_STREAM of a wrong length", FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, b"x")),
    ended("4.2", "a frame that is too large", FRAME_SIZE_ERROR, frame(DATA, 0, 1, b"", 16385)),
    ended("4.3", "a header block that is none", COMPRESSION_ERROR, frame(HEADERS, 5, 1, b"\xbf")),
    ended(
        "6.10", "CONTINUATION without HEADERS", PROTOCOL_ERROR, frame(CONTINUATION, 4, 1, block(OK))
    ),
    ended(
        "6.10", "DATA within a header block", PROTOCOL_ERROR, frame(HEADERS, 0, 1) + data(1, b"x")
    ),
    ended(
        "10.5.1",
        "a header block without end",
        ENHANCE_YOUR_CALM,
        frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16384)) * 5,
    ),
    ended("3.4", "HTTP/1.1", FRAME_SIZE_ERROR, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    told("6.8", "GOAWAY that refuses it", goaway(0), reason="stream_refused"),
    told(
        "6.8",
        "GOAWAY with an error that refuses it",
        goaway(0, ENHANCE_YOUR_CALM),
        reason="stream_refused",
    ),
    refused(
        "6.9.1",
        "the stream's window above 2^31-1",
        window(1, 2**31 - 1),
        code=FLOW_CONTROL_ERROR,
        reason="upstream_reset",
    ),
    refused("6.9", "WINDOW_UPDATE of the stream by 0", window(1, 0), reason="upstream_reset"),
    passed("5.1", "DATA behind the end", DONE, data(1, b"x"), resets={1: STREAM_CLOSED}),
    passed("5.1", "HEADERS behind the end", DONE, head(1, OK), resets={1: STREAM_CLOSED}),
]

CASES = [*VALID, *MALFORMED, *ENDS]
