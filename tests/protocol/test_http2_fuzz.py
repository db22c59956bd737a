"""Random clients and services of HTTP/2: nothing raises, nothing is forgotten, nothing smuggled.

``SIGER_FUZZ_CASES`` says how many cases there are of each kind, in all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.proxy.forwarded import NOT_FORWARDED
from tests.protocol.http2_peer import (
    HELLO,
    Fields,
    data,
    frame,
    get,
    goaway,
    head,
    post,
    request,
    reset,
    window,
)
from tests.protocol.http2_peer import settings as settings_frame
from tests.protocol.wired import pieces
from tests.protocol.wired2 import Client2, Wired2

CASES = int(os.environ.get("SIGER_FUZZ_CASES", "120"))
DERANDOMIZE = "SIGER_FUZZ_CASES" not in os.environ

# What is accepted on HTTP/2 and what HTTP/1.1 makes of it.

SPECIAL = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"#", b"?", b"%", b"\\", b"//"]
PIECE = st.one_of(
    st.sampled_from(SPECIAL),
    st.binary(max_size=3),
    st.text("abcXYZ019-_.~/%{}|\"'`<>^=&;@!$()*+[]", max_size=6).map(str.encode),
)
TEXT = st.lists(PIECE, max_size=3).map(b"".join)
NAME = st.one_of(
    st.sampled_from(
        [
            *(b"accept", b"x-a", b"via", b"cookie", b"range", b"trailer", b"priority", b"link"),
            *(b"transfer-encoding", b"content-length", b"te", b"connection", b"host", b"upgrade"),
            *(b"forwarded", b"x-forwarded-for", b"x-request-id", b"traceparent"),
        ]
    ),
    st.text("abcdefghijklmnopqrstuvwxyz0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=8).map(
        str.encode
    ),
    TEXT,
)
VALUE = st.one_of(
    st.sampled_from([b"chunked", b"0", b"5", b"trailers", b"a", b"close", b"a=1", b"100-continue"]),
    st.text('abcdefABCDEF0123456789 ,;="()/é', max_size=12).map(lambda one: one.encode("latin-1")),
    TEXT,
)
PLAIN_FIELD = st.tuples(
    st.sampled_from([b"accept", b"x-a", b"via", b"cookie", b"x-b", b"trailer", b"priority"]),
    st.sampled_from([b"a", b"", b"trailers", b"a, b", b"a=1; b=2", b'\xe9"x" y']),
)
METHOD = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"M-SEARCH", b"OPTIONS"])
PATH = st.text("abAB019-_.~/%{}|\"'`<>^=&;@!$()*+[]?\\", max_size=9).map(
    lambda one: b"/" + one.encode()
)
AUTHORITY = st.sampled_from([b"a", b"a:80", b"[::1]:80", b"a.b-c"])
Asked = tuple[bytes, bytes, bytes, Fields]
"""Method, path, authority, fields."""
PLAIN = st.tuples(METHOD, PATH, AUTHORITY, st.lists(PLAIN_FIELD, max_size=4))
ODD = st.tuples(TEXT, TEXT, TEXT, st.lists(st.tuples(NAME, VALUE), min_size=1, max_size=3))
WHICH = st.integers(0, 7)
"""Which of the four is odd; above three, its fields, or none."""


ADDED = frozenset(
    {b"host", b"via", b"te", b"connection", b"traceparent", b"forwarded", b"x-forwarded-for"}
    | {b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id", b"cookie", b"content-length"}
    | {b"transfer-encoding", b"trailer"}
)
"""Fields that the gateway writes itself, or anew."""


@settings(max_examples=4 * CASES, derandomize=DERANDOMIZE, deadline=None)
@given(PLAIN, ODD, WHICH, st.booleans())
def check_translation(plain: Asked, odd: Asked, which: int, with_body: bool) -> None:
    method = odd[0] if which == 0 else plain[0]
    path = odd[1] if which == 1 else plain[1]
    authority = odd[2] if which == 2 else plain[2]
    fields = plain[3] + (odd[3] if 3 <= which <= 5 else [])
    wired: Wired2 = WIRED[0]
    wired.seen.clear()
    client = wired.client()
    asked = request(path, *fields, method=method, authority=authority)
    client.send(HELLO, head(1, asked, ends=not with_body))  # ``pump`` asserts: at most one request
    if with_body:
        client.send(data(1, b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n", ends=True))
    log = client.read()
    assert log.status(1) or log.resets, "no answer"
    assert not log.goaways
    FIGURES["cases"] += 1
    assert len(wired.seen) <= 1
    if wired.seen:
        (seen,) = wired.seen
        FIGURES["forwarded"] += 1
        assert (seen.method, seen.target, seen.fields[b"host"]) == (method, path, authority)
        kept = [one for one in fields if one[0] not in NOT_FORWARDED | ADDED]
        assert [one for one in seen.headers if one[0] not in ADDED] == kept
        crumbs = [value for name, value in fields if name == b"cookie"]
        if crumbs:
            assert seen.fields[b"cookie"] == b"; ".join(filter(None, crumbs))
        assert (seen.content_length != 0) <= with_body
    client.lose()


WIRED: list[Wired2] = []
FIGURES = Counter[str]()


async def test_what_is_taken_from_http2_is_one_request_of_http1_that_says_the_same() -> None:
    WIRED[:] = [Wired2()]
    FIGURES.clear()
    check_translation()
    assert FIGURES["forwarded"] > FIGURES["cases"] / 20


# Frames.

STREAM = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2, 9])
TARGET = st.sampled_from(
    [b"/", b"/wait", b"/h2", b"/h2", b"/big", b"/none", b"/early", b"/chunks", b"/../..", b" "]
)
SIZE = st.sampled_from([0, 1, 10, 5000, 16384])
HEAD_FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=2)
RANDOM_FRAME = st.builds(
    lambda kind, flags, stream, payload: frame(kind, flags, stream, payload),
    st.integers(0, 10),
    st.integers(0, 255),
    STREAM,
    st.binary(max_size=12),
)
COMMON = [
    RANDOM_FRAME,
    st.builds(
        lambda stream, size, ends: data(stream, bytes(size), ends=ends), STREAM, SIZE, st.booleans()
    ),
    st.builds(window, STREAM, st.sampled_from([0, 1, 100, 70_000, 2**31 - 1])),
    st.builds(lambda size: settings_frame((4, size)), st.sampled_from([0, 10, 65535, 2**31 - 1])),
    st.builds(reset, STREAM, st.integers(0, 14)),
    st.builds(lambda stream, fields: head(stream, fields), STREAM, HEAD_FIELDS),
    st.builds(lambda last: goaway(last), STREAM),
    st.binary(min_size=1, max_size=20),
]
LENGTHS = st.sampled_from([[], [(b"content-length", b"0")], [(b"content-length", b"5000")]])
MEDIA_TYPE = st.sampled_from(
    [b"application/grpc", b"application/grpc-web+proto", b"application/grpc-web-text"]
)
DEADLINE = st.sampled_from([[], [(b"grpc-timeout", b"1S")], [(b"grpc-timeout", b"0n")]])
CALL = st.builds(
    lambda stream, kind, deadline: post(stream, b"/h2", (b"content-type", kind), *deadline),
    STREAM, MEDIA_TYPE, DEADLINE,
)  # fmt: skip
MESSAGES = st.builds(
    lambda stream, content, ends: data(stream, content, ends=ends),
    STREAM, st.sampled_from([b"\0\0\0\0\1a", b"\0\0\0\0\5a", b"AAAAAAFh", b"="]), st.booleans(),
)  # fmt: skip
GRPC_STATUS = st.sampled_from([[], [(b"grpc-status", b"0")], [(b"grpc-status", b"14")]])
ANSWER = st.builds(
    lambda stream, code, ends: head(
        stream, [(b":status", b"200"), (b"content-type", b"application/grpc"), *code], ends=ends
    ),
    STREAM, GRPC_STATUS, st.booleans(),
)  # fmt: skip
FROM_CLIENT = st.one_of(
    CALL,
    MESSAGES,
    st.builds(get, STREAM, TARGET),
    st.builds(get, STREAM, TARGET),
    st.builds(lambda stream, path, fields: post(stream, path, *fields), STREAM, TARGET, LENGTHS),
    *COMMON,
)
STATUS = st.sampled_from([b"200", b"200", b"204", b"304", b"100", b"103", b"500", b"99"])
FROM_SERVICE = st.one_of(
    ANSWER,
    MESSAGES,
    st.builds(head, STREAM, GRPC_STATUS),
    st.builds(
        lambda stream, code, fields, ends: head(stream, [(b":status", code), *fields], ends=ends),
        STREAM, STATUS, LENGTHS, st.booleans(),
    ),
    st.builds(lambda most: settings_frame((3, most)), st.integers(0, 3)),
    *COMMON,
)  # fmt: skip
Action = tuple[str, bytes, list[int]]
CUTS = st.lists(st.integers(0, 99), max_size=2)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("client"), FROM_CLIENT, CUTS),
        st.tuples(st.just("client"), FROM_CLIENT, CUTS),
        st.tuples(st.just("service"), FROM_SERVICE, CUTS),
        st.tuples(st.just("service"), FROM_SERVICE, CUTS),
        st.tuples(
            st.sampled_from(["pump", "read", "minute", "drain", "lose", "retire", "second", "cut"]),
            st.just(b""),
            CUTS,
        ),
    ),
    max_size=25,
)


def play(actions: list[Action], split: Callable[[bytes, list[int]], list[bytes]]) -> Client2:
    """A client, with all that happened to it. Reads slowly: its socket holds 20,000 bytes."""
    wired = Wired2()
    client = wired.client(high=20_000)
    client.feed(HELLO)
    now = 1000.0
    for what, said, cuts in actions:
        if what == "client" and client.transport.reading:
            for piece in split(said, cuts):
                client.feed(piece)
        elif what == "service" and wired.dialer.made:
            wired.service.send(*split(said, cuts))
        elif what == "pump":
            wired.pump()
        elif what == "read":
            client.read()
        elif what in ("minute", "second"):
            now += 60.0 if what == "minute" else 1.0
            wired.check(now)
            wired.two.close_stale(now)
        elif what == "drain":
            client.connection.drain()
            client.connection.close_if_idle(now)
        elif what == "retire":
            wired.two.retire()
        elif what == "cut" and not client.transport.aborted:
            client.connection.cut()
        elif what == "lose" and wired.dialer.made:
            service = wired.service
            service.transport.closing = True
            service.connection.connection_lost(None)
    return client


def shape(client: Client2) -> list[tuple[int, int, int]]:
    return [(kind, flags, stream) for kind, flags, stream, _ in client.read().frames]


@settings(max_examples=2 * CASES, derandomize=DERANDOMIZE, deadline=None)
@given(ACTIONS)
def check_frames(actions: list[Action]) -> None:
    client = play(actions, lambda said, cuts: [said])
    whole = shape(client)
    for service in client.wired.dialer.made:
        service.log_from()  # asserts that nothing was said that must not be
    client.lose()
    assert all(endpoint.active == 0 for endpoint in client.wired.cluster.endpoints)
    assert not any(one.connection.streams for one in client.wired.dialer.made)
    FIGURES["cases"] += 1
    FIGURES["answered"] += bool(client.log.heads)
    FIGURES["sent away"] += bool(client.log.goaways)
    in_pieces = play(actions, pieces)
    assert shape(in_pieces) == whole
    in_pieces.lose()


async def test_whatever_both_sides_say_every_exchange_ends_once_and_pieces_change_nothing() -> None:
    FIGURES.clear()
    check_frames()
    assert FIGURES["answered"] > FIGURES["cases"] / 50
    assert FIGURES["sent away"] > FIGURES["cases"] / 50


@settings(max_examples=CASES, derandomize=DERANDOMIZE, deadline=None)
@given(
    st.lists(FROM_CLIENT, max_size=8).map(b"".join),
    st.lists(FROM_SERVICE, max_size=8).map(b"".join),
)
def check_bytes(said: bytes, answered: bytes) -> None:
    def bytewise(what: bytes, cuts: list[int]) -> list[bytes]:
        return [bytes([byte]) for byte in what[:3000]]

    actions: list[Action] = [("client", said[:3000], []), ("service", answered[:3000], [])]
    one, other = play(actions, lambda what, cuts: [what]), play(actions, bytewise)
    assert shape(one) == shape(other)
    one.lose()
    other.lose()


async def test_bytes_one_by_one_mean_what_they_mean_together() -> None:
    check_bytes()
