"""The client side of the HTTP/1.1 parser: what services answer, and what is made of it.

Sections are those of RFC 9112 unless RFC 9110 is named.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http1.message import ProtocolError
from siger_gateway.http1.parser import MAX_RESPONSE_HEAD, ResponseParser


class Read(NamedTuple):
    status: int
    body: bytes
    complete: bool
    overrun: bool = False


def read(*pieces: bytes, method: bytes = b"GET") -> Read | str:
    """The response to ``method``; or "refused"."""
    parser = ResponseParser()
    parser.expect(method)
    body = b""
    for piece in pieces:
        try:
            parser.receive(piece)
        except ProtocolError as error:
            return "refused" if error.reason == "upstream_protocol" else error.reason
        if parser.response is not None:
            body += parser.response.take_body()
            if parser.response.complete:
                break
    if parser.response is None:
        return Read(0, b"", False)
    return Read(parser.response.status, body, parser.response.complete, parser.overrun)


OK = b"HTTP/1.1 200 OK\r\n"

READ = {
    "6.3: Content-Length": (OK + b"Content-Length: 2\r\n\r\nab", Read(200, b"ab", True)),
    "6.3: less than it says": (OK + b"Content-Length: 3\r\n\r\nab", Read(200, b"ab", False)),
    "6.3: no body": (OK + b"Content-Length: 0\r\n\r\n", Read(200, b"", True)),
    "7.1: chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Read(200, b"ab", True),
    ),
    "7.1: without the last chunk": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        Read(200, b"ab", False),
    ),
    "7.1.2: trailers": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n",
        Read(200, b"", True),
    ),
    "6.3: until the end of the connection": (OK + b"\r\nab", Read(200, b"ab", False)),
    "6.3: 204 has no body": (b"HTTP/1.1 204 X\r\n\r\n", Read(204, b"", True)),
    "6.3: 304 has no body, whatever its length says": (
        b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n",
        Read(304, b"", True),
    ),
    "9110 15.2: 1xx come before": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: a\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n",
        Read(200, b"", True),
    ),
    "4: no reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Read(200, b"", True)),
    "4: HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", Read(200, b"x", True)),
}

REFUSED = {
    "4: nonsense": b"nonsense\r\n\r\n",
    "4: a status that is none": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "4: a status beyond 599": b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n",
    "9110 15.2.2: 101 that nobody asked for": (
        b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    ),
    "6.1: Content-Length with Transfer-Encoding": OK
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "6.3: two Content-Lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "6.1: another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nab",
    "6.1: another coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "7.1: a bad chunk size": OK + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    "5.2: obs-fold": OK + b"X: 1\r\n 2\r\n\r\n",
    "2.2: bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "5: NUL in a value": OK + b"X: \x00\r\n\r\n",
    "limit: the head": OK + b"X: " + b"x" * MAX_RESPONSE_HEAD,
    "limit: the number of fields": OK + b"X: 1\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("case", READ, ids=str)
def test_what_is_valid_is_read(case: str) -> None:
    data, expected = READ[case]
    assert read(data) == expected


@pytest.mark.parametrize("case", READ, ids=str)
def test_it_does_not_matter_where_reads_begin_and_end(case: str) -> None:
    data, expected = READ[case]
    for cut in range(1, len(data)):
        assert read(data[:cut], data[cut:]) == expected


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_is_not_valid_is_refused(case: str) -> None:
    assert read(REFUSED[case]) == "refused"


@pytest.mark.parametrize("after", [b"HTTP/1.1 200 OK\r\n\r\n", OK + b"Content-Length: 1\r\n\r\nx"])
@pytest.mark.parametrize(
    ("method", "response"),
    [
        (b"GET", OK + b"Content-Length: 2\r\n\r\nab"),
        (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 X\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 X\r\n\r\n"),
        (b"HEAD", OK + b"Content-Length: 2\r\n\r\n"),
    ],
)
def test_a_second_response_is_noticed(method: bytes, response: bytes, after: bytes) -> None:
    found = read(response + after, method=method)
    assert isinstance(found, Read)
    assert (found.complete, found.overrun) == (True, True)


@pytest.mark.parametrize(
    "length", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
def test_a_response_to_head_has_no_body(length: bytes) -> None:
    assert read(OK + length + b"\r\n", method=b"HEAD") == Read(200, b"", True)
    with_body = read(OK + length + b"\r\nabcde", method=b"HEAD")
    assert with_body == Read(200, b"", True, overrun=True)


def test_a_parser_reads_one_response_after_the_other() -> None:
    parser = ResponseParser()
    for method, data in (
        (b"HEAD", OK + b"Content-Length: 2\r\n\r\n"),
        (b"GET", OK + b"Content-Length: 2\r\n\r\nab"),
        (b"GET", b"HTTP/1.1 304 X\r\nContent-Length: 2\r\n\r\n"),
        (b"GET", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    ):
        parser.expect(method)
        parser.receive(data)
        assert parser.response is not None
        assert parser.response.complete
        assert not parser.overrun


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", True),
        (OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (OK + b"\r\n", False),
    ],
)
def test_whether_the_connection_can_be_used_again(head: bytes, keep_alive: bool) -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.receive(head)
    assert parser.response is not None
    assert parser.response.keep_alive is keep_alive


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    OK,
                    b"\r\n",
                    b"HTTP/1.1 103 E\r\n\r\n",
                    b"Content-Length: 2\r\n",
                    b"ab",
                    b"0\r\n\r\n",
                ]
            ),
            st.sampled_from([b"Transfer-Encoding: chunked\r\n", b"2\r\nab\r\n", b"\n", b"\x00"]),
        ),
        max_size=10,
    ),
    st.sampled_from([b"GET", b"HEAD"]),
)
def test_any_bytes_are_a_response_or_refused(pieces: list[bytes], method: bytes) -> None:
    read(b"".join(pieces), method=method)
    read(*pieces, method=method)
