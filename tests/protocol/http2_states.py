"""Requests of clients in HTTP/2: the preface, frames, and streams (RFC 9113 sections 3 to 5)."""

from __future__ import annotations

from struct import pack

from siger_gateway.http2.faults import (
    COMPRESSION_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from siger_gateway.http2.frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PRIORITY_FIELDS,
)
from tests.protocol.http2_cases import (
    DONE,
    HALF,
    OPEN,
    ServerCase,
    ended_with,
    ignored,
    malformed_body,
    reset_with,
    taken,
)
from tests.protocol.http2_peer import (
    HELLO,
    SETTINGS_ACK,
    block,
    data,
    frame,
    get,
    head,
    post,
    priority,
    request,
    reset,
    settings,
    window,
)

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
    ended_with(
        PROTOCOL_ERROR, "5.1", "idle: CONTINUATION", frame(CONTINUATION, 4, 1, block(request()))
    ),
    ended_with(PROTOCOL_ERROR, "5.1", "idle: DATA on a stream of the server's", data(2, b"x")),
    ended_with(
        FRAME_SIZE_ERROR, "5.1", "idle: PRIORITY of a wrong length", frame(PRIORITY, 0, 1, bytes(4))
    ),
    taken("5.1", "idle: PRIORITY", priority(1) + DONE, statuses={1: 200}),
    reset_with(STREAM_CLOSED, "5.1", "half-closed: DATA", HALF, data(1, b"x")),
    reset_with(STREAM_CLOSED, "5.1", "half-closed: HEADERS", HALF, head(1, [(b"a", b"b")])),
    reset_with(PROTOCOL_ERROR, "5.1", "half-closed: WINDOW_UPDATE by 0", HALF, window(1, 0)),
    ignored("5.1", "half-closed: WINDOW_UPDATE", HALF, window(1, 1)),
    ignored("5.1", "half-closed: PRIORITY", HALF, priority(1)),
    ignored("5.1", "half-closed: RST_STREAM", HALF, reset(1)),
    ended_with(
        PROTOCOL_ERROR,
        "5.1",
        "half-closed: CONTINUATION",
        HALF,
        frame(CONTINUATION, 4, 1, block([(b"a", b"b")])),
    ),
    reset_with(STREAM_CLOSED, "5.1", "closed by both: DATA", DONE, data(1, b"x"), status=200),
    ended_with(STREAM_CLOSED, "5.1", "closed by both: HEADERS", DONE, get(1), statuses={1: 200}),
    taken("5.1", "closed by both: RST_STREAM", DONE, reset(1), statuses={1: 200}),
    taken("5.1", "closed by both: WINDOW_UPDATE", DONE, window(1, 1), statuses={1: 200}),
    taken("5.1", "closed by both: PRIORITY", DONE, priority(1), statuses={1: 200}),
    reset_with(STREAM_CLOSED, "5.1", "reset by the client: DATA", OPEN, reset(1), data(1, b"x")),
    ended_with(STREAM_CLOSED, "5.1", "reset by the client: HEADERS", OPEN, reset(1), get(1)),
    ignored("5.1", "reset by the client: RST_STREAM", OPEN, reset(1), reset(1)),
    taken(
        "5.1",
        "reset by the client, and another stream goes on",
        OPEN + get(3),
        reset(1),
        statuses={3: 200},
    ),
    malformed_body(
        "5.1",
        "reset by the gateway: DATA and trailers that crossed",
        head(1, request(b" "), ends=False),
        data(1, b"x"),
        head(1, [(b"a", b"b")]),
    ),
    malformed_body(
        "5.1", "reset by the gateway: RST_STREAM that crossed", head(1, request(b" ")), reset(1)
    ),
    ended_with(PROTOCOL_ERROR, "5.1.1", "an even stream id", get(2)),
    ended_with(PROTOCOL_ERROR, "5.1.1", "stream id 0", get(0)),
    *[
        ended_with(
            PROTOCOL_ERROR,
            "5.1.1",
            f"a stream id that has been passed over: {skipped}",
            get(3),
            get(9),
            get(11),
            get(skipped),
            statuses={3: 200, 9: 200, 11: 200},
        )
        for skipped in (1, 5, 7)
    ],
    ended_with(
        STREAM_CLOSED,
        "5.1.1",
        "a stream id of a stream that is over, behind one that has been passed over",
        get(5),
        get(7),
        get(5),
        statuses={5: 200, 7: 200},
    ),
    taken(
        "5.1.1", "stream ids with gaps", get(1), get(9), get(77), statuses={1: 200, 9: 200, 77: 200}
    ),
    ended_with(
        PROTOCOL_ERROR,
        "5.1.1",
        "DATA on an id above all used",
        DONE,
        data(3, b"x"),
        statuses={1: 200},
    ),
    reset_with(
        REFUSED_STREAM,
        "5.1.2",
        "one stream more than allowed",
        b"".join(get(number, b"/wait") for number in range(1, 259, 2)),
        reset(1),
        stream=257,
    ),
    taken(
        "5.1.2",
        "as many streams as allowed, and others after them",
        b"".join(get(number) for number in range(1, 257, 2)),
        get(257),
        statuses={1: 200, 255: 200, 257: 200},
    ),
    ended_with(
        PROTOCOL_ERROR,
        "5.3.1",
        "HEADERS that depend on themselves",
        frame(HEADERS, 5 | PRIORITY_FIELDS, 1, pack(">LB", 1, 1) + block(request())),
    ),
    reset_with(PROTOCOL_ERROR, "5.3.1", "PRIORITY that depends on itself", HALF, priority(1, 1)),
    taken(
        "5.3.1",
        "HEADERS with priority fields",
        frame(HEADERS, 5 | PRIORITY_FIELDS, 1, pack(">LB", 0, 1) + block(request())),
        statuses={1: 200},
    ),
    taken(
        "5.5",
        "unknown frames on a stream",
        OPEN + frame(0xF0, 0xFF, 1, b"?") + get(3),
        statuses={3: 200},
    ),
    taken("5.5", "an unknown setting", settings((0x99, 7)) + DONE, statuses={1: 200}),
]


CASES = [*PREFACES, *FRAMES, *STATES]
