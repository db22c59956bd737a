"""Requests of clients in HTTP/2: each type of frame (RFC 9113 section 6)."""

from __future__ import annotations

from struct import pack

from siger_gateway.http2.faults import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
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
    PRIORITY,
    PRIORITY_FIELDS,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.protocol.http2_cases import (
    DONE,
    HALF,
    OPEN,
    ended_with,
    ignored,
    padded,
    reset_with,
    taken,
)
from tests.protocol.http2_peer import (
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

DATA_AND_HEADERS = [
    ended_with(PROTOCOL_ERROR, "6.1", "DATA on stream 0", data(0, b"x")),
    taken(
        "6.1",
        "padded DATA",
        post(1, b"/", (b"content-length", b"3")),
        frame(DATA, PADDED | END_STREAM, 1, padded(200, b"abc")),
        statuses={1: 200},
    ),
    taken(
        "6.1",
        "DATA of nothing but padding",
        post(1, b"/", (b"content-length", b"0"))
        + frame(DATA, PADDED | END_STREAM, 1, padded(9, b"")),
        statuses={1: 200},
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.1",
        "padding as long as the payload",
        OPEN,
        frame(DATA, PADDED, 1, padded(3, b"", 2)),
    ),
    ended_with(
        FRAME_SIZE_ERROR,
        "6.1",
        "padded DATA without the padding's length",
        OPEN,
        frame(DATA, PADDED, 1),
    ),
    taken(
        "6.2",
        "padded HEADERS",
        frame(HEADERS, 5 | PADDED, 1, padded(30, block(request()))),
        statuses={1: 200},
    ),
    taken(
        "6.2",
        "HEADERS with padding and priority",
        frame(HEADERS, 5 | PADDED | PRIORITY_FIELDS, 1, padded(9, bytes(5) + block(request()))),
        statuses={1: 200},
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.2",
        "HEADERS with more padding than there is",
        frame(HEADERS, 5 | PADDED, 1, b"\xff" + block(request())),
    ),
    ended_with(
        FRAME_SIZE_ERROR,
        "6.2",
        "HEADERS too short for priority",
        frame(HEADERS, 5 | PRIORITY_FIELDS, 1, bytes(4)),
    ),
    ended_with(PROTOCOL_ERROR, "6.3", "PRIORITY on stream 0", priority(0)),
    reset_with(
        FRAME_SIZE_ERROR, "6.3", "PRIORITY of a wrong length", HALF, frame(PRIORITY, 0, 1, bytes(6))
    ),
    ended_with(PROTOCOL_ERROR, "6.4", "RST_STREAM on stream 0", reset(0)),
    ended_with(
        FRAME_SIZE_ERROR,
        "6.4",
        "RST_STREAM of a wrong length",
        OPEN,
        frame(RST_STREAM, 0, 1, bytes(3)),
    ),
    ignored("6.4", "RST_STREAM with an unknown code", OPEN, reset(1, 0xDEADBEEF)),
    ended_with(
        PROTOCOL_ERROR,
        "6.6",
        "PUSH_PROMISE",
        OPEN,
        frame(PUSH_PROMISE, 4, 1, pack(">L", 2) + block(request())),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "CONTINUATION on stream 0",
        head(1, request(), whole=False) + frame(CONTINUATION, 4, 0),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "CONTINUATION of another stream",
        head(1, request(), whole=False) + frame(CONTINUATION, 4, 3),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "CONTINUATION behind a whole block",
        get(1, b"/wait") + frame(CONTINUATION, 4, 1),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "CONTINUATION behind DATA",
        OPEN,
        data(1, b"x") + frame(CONTINUATION, 4, 1),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "CONTINUATION behind the last one",
        head(1, request(b"/wait"), whole=False)
        + frame(CONTINUATION, 4, 1)
        + frame(CONTINUATION, 4, 1),
    ),
    ended_with(
        PROTOCOL_ERROR,
        "6.10",
        "DATA in place of CONTINUATION",
        head(1, request(), whole=False) + data(1, b"x"),
    ),
    taken(
        "6.10",
        "a block in many CONTINUATIONs",
        frame(HEADERS, END_STREAM, 1)
        + b"".join(frame(CONTINUATION, 0, 1, bytes([byte])) for byte in block(request()))
        + frame(CONTINUATION, END_HEADERS, 1),
        statuses={1: 200},
    ),
    taken(
        "6.10",
        "trailers with CONTINUATION",
        post(1),
        data(1, b"x"),
        frame(HEADERS, END_STREAM, 1) + frame(CONTINUATION, 4, 1, block([(b"a", b"b")])),
        statuses={1: 200},
    ),
]

CONNECTION = [
    ended_with(PROTOCOL_ERROR, "6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1)),
    ended_with(
        FRAME_SIZE_ERROR, "6.5", "SETTINGS of a wrong length", frame(SETTINGS, 0, 0, bytes(5))
    ),
    ended_with(
        FRAME_SIZE_ERROR,
        "6.5",
        "an acknowledgement with settings",
        frame(SETTINGS, ACK, 0, bytes(6)),
    ),
    ended_with(PROTOCOL_ERROR, "6.5.2", "ENABLE_PUSH 2", settings((2, 2))),
    ignored("6.5.2", "ENABLE_PUSH 1", settings((2, 1))),
    ended_with(FLOW_CONTROL_ERROR, "6.5.2", "INITIAL_WINDOW_SIZE 2^31", settings((4, 1 << 31))),
    ended_with(PROTOCOL_ERROR, "6.5.2", "MAX_FRAME_SIZE 16,383", settings((5, 16383))),
    ended_with(PROTOCOL_ERROR, "6.5.2", "MAX_FRAME_SIZE 2^24", settings((5, 1 << 24))),
    ignored("6.5.2", "MAX_FRAME_SIZE 2^24-1", settings((5, (1 << 24) - 1))),
    taken(
        "6.5.2", "HEADER_TABLE_SIZE 0", settings((1, 0)), DONE, get(3), statuses={1: 200, 3: 200}
    ),
    taken(
        "6.5.2",
        "the table's size there and back",
        settings((1, 0)) + settings((1, 4096)),
        DONE,
        statuses={1: 200},
    ),
    taken(
        "6.5.2",
        "MAX_HEADER_LIST_SIZE 1, which is advice",
        settings((6, 1)),
        DONE,
        statuses={1: 200},
    ),
    ended_with(PROTOCOL_ERROR, "6.7", "PING on a stream", frame(PING, 0, 1, bytes(8))),
    ended_with(FRAME_SIZE_ERROR, "6.7", "PING of a wrong length", frame(PING, 0, 0, bytes(7))),
    ignored(
        "6.7", "an acknowledgement of a PING that was not sent", frame(PING, ACK, 0, b"invented")
    ),
    ignored("6.7", "an acknowledgement as if a drain had begun", frame(PING, ACK, 0, b"sigerend")),
    ended_with(PROTOCOL_ERROR, "6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8))),
    ended_with(FRAME_SIZE_ERROR, "6.8", "GOAWAY of a wrong length", frame(GOAWAY, 0, 0, bytes(7))),
    taken("6.8", "GOAWAY while a response is awaited", goaway() + DONE, statuses={1: 200}),
    ended_with(PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE of the connection by 0", window(0, 0)),
    reset_with(PROTOCOL_ERROR, "6.9", "WINDOW_UPDATE of a stream by 0", OPEN, window(1, 0)),
    ended_with(
        FRAME_SIZE_ERROR,
        "6.9",
        "WINDOW_UPDATE of a wrong length",
        frame(WINDOW_UPDATE, 0, 0, bytes(3)),
    ),
    ended_with(
        FLOW_CONTROL_ERROR,
        "6.9.1",
        "the connection's window above 2^31-1",
        window(0, (1 << 31) - 1),
    ),
    reset_with(
        FLOW_CONTROL_ERROR,
        "6.9.1",
        "a stream's window above 2^31-1",
        OPEN,
        window(1, (1 << 31) - 1),
    ),
    ignored(
        "6.9.1",
        "windows of exactly 2^31-1",
        OPEN,
        window(1, (1 << 31) - 65536),
        window(0, (1 << 31) - 65536),
    ),
    ended_with(
        FLOW_CONTROL_ERROR,
        "6.9.2",
        "a stream's window above 2^31-1 by SETTINGS",
        OPEN,
        window(1, 10),
        settings((4, (1 << 31) - 1)),
    ),
    reset_with(
        FLOW_CONTROL_ERROR,
        "6.9.1",
        "more DATA than the stream's window",
        head(1, request(b"/h2", method=b"POST"), ends=False),
        b"".join(data(1, bytes(16384)) for _ in range(40)),
    ),
]


CASES = [*DATA_AND_HEADERS, *CONNECTION]
