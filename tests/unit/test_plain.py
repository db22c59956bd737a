"""Heads that are taken without llhttp mean what llhttp would have made of them.

A message of which one byte comes by itself goes to llhttp, so each case is read in both ways.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http.message import ProtocolError
from siger_gateway.http1 import plain
from siger_gateway.http1.plain import NotPlain, fields_of, request_line
from siger_gateway.http1.request_parser import RequestParser
from siger_gateway.http1.response_parser import ResponseParser

REQUEST = (
    b"POST /api/v1/jobs?dry=1 HTTP/1.1\r\n"
    b"Host: api.example.com:8080\r\n"
    b"User-Agent: curl/8.5.0\r\n"
    b"Accept: */*\r\n"
    b"Connection: keep-alive\r\n"
    b"X-Note: \xe9t\xe9 and\ttabs\r\n"
    b"Content-Length: 11\r\n\r\nhello world"
)
RESPONSE = (
    b"HTTP/1.1 404 Not Found\r\n"
    b"Server: nginx\r\n"
    b"Connection: keep-alive\r\n"
    b"Set-Cookie: a=1\r\n"
    b"Set-Cookie: b=2\r\n"
    b"Content-Length: 5\r\n\r\ngone!"
)

Reading = tuple[object, ...]


def as_request(*pieces: bytes) -> Reading:
    parser = RequestParser(8192, 10_000)
    for piece in pieces:
        parser.receive(piece)
    messages = [
        (
            one.method,
            one.target,
            one.path,
            one.headers,
            one.fields,
            one.content_length,
            one.take_body(),
            one.complete,
            one.keep_alive,
            one.http10,
            one.upgrade,
        )
        for one in parser.started
    ]
    return messages, parser.error.reason if parser.error is not None else None


def as_response(*pieces: bytes) -> Reading:
    parser = ResponseParser()
    parser.expect(b"GET")
    try:
        for piece in pieces:
            parser.receive(piece)
    except ProtocolError:
        return ("refused",)
    one = parser.response
    if one is None:
        return (parser.overrun, len(parser.informational))
    return (
        one.status,
        one.headers,
        one.fields,
        one.take_body(),
        one.complete,
        one.keep_alive,
        one.until_close,
        parser.overrun,
    )


def damaged(message: bytes) -> st.SearchStrategy[bytes]:
    """``message`` with some bytes of it replaced, taken away or put in."""
    harmful = st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x7f", b"#"])
    edit = st.tuples(
        st.integers(0, len(message)), st.integers(0, 3), harmful | st.binary(max_size=2)
    )

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        data = message
        for place, count, put in edits:
            data = data[:place] + put + data[place + count :]
        return data

    return st.lists(edit, min_size=1, max_size=3).map(apply)


@settings(max_examples=500, deadline=None)
@given(damaged(REQUEST))
def test_a_damaged_request_is_read_as_llhttp_reads_it(data: bytes) -> None:
    assert as_request(data) == as_request(data[:1], data[1:])


@settings(max_examples=500, deadline=None)
@given(damaged(RESPONSE))
def test_a_damaged_response_is_read_as_llhttp_reads_it(data: bytes) -> None:
    assert as_response(data) == as_response(data[:1], data[1:])


@pytest.mark.parametrize("cut", range(len(REQUEST) - 11, len(REQUEST) + 1))
def test_a_body_may_come_in_any_pieces(cut: int) -> None:
    assert as_request(REQUEST[:cut], REQUEST[cut:]) == as_request(REQUEST)


def test_the_next_request_begins_where_the_body_ends() -> None:
    second = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    messages, error = as_request(REQUEST[:-3], REQUEST[-3:] + second, second)
    assert error is None
    assert [message[1] for message in messages] == [b"/api/v1/jobs?dry=1", b"/", b"/"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer-Encoding: chunked\r",
        b"Upgrade: websocket\r",
        b"Connection: close\r",
        b"Connection: keep-alive, x-a\r",
        b"Expect: 100-continue\r",
        b"X-A:no space\r",
        b"X-A: \r",
        b"X-A:  two\r",
        b"X-A: b \r",
        b"X-A : b\r",
        b" X-A: b\r",
        b"X-A: a\rb\r",
        b"X-A: a\0b\r",
        b"X-A: b",
        b": b\r",
        b"\r",
        b"",
    ],
)
def test_what_could_mean_more_is_left_to_llhttp(line: bytes) -> None:
    with pytest.raises(NotPlain):
        fields_of([line])


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.0\r",
        b"GET / HTTP/1.1",
        b"GET  / HTTP/1.1\r",
        b"GET /a#b HTTP/1.1\r",
        b"GET /\xc3\xa9 HTTP/1.1\r",
        b"GET http://a/ HTTP/1.1\r",
        b"GET  HTTP/1.1\r",
        b"CONNECT / HTTP/1.1\r",
        b"get / HTTP/1.1\r",
        b"",
    ],
)
def test_only_ordinary_request_lines_are_taken(line: bytes) -> None:
    with pytest.raises(NotPlain):
        request_line(line)


def test_clients_cannot_fill_the_memory_with_lines() -> None:
    for number in range(2 * plain.MAX_LINES):
        fields_of([b"X-%d: %d\r" % (number, number)])
    assert len(plain._lines) <= plain.MAX_LINES
    assert len(plain._names) <= plain.MAX_NAMES
    fields_of([b"X-Long: %b\r" % (b"a" * plain.LONGEST_LINE)])
    assert max(map(len, plain._lines)) <= plain.LONGEST_LINE
