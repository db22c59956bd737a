"""The client side of the HTTP/1.1 parser: what services answer, and what is made of it.

Sections are those of RFC 9112 unless RFC 9110 is named.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http.message import ProtocolError
from siger_gateway.http1.response_parser import MAX_RESPONSE_HEAD, ResponseParser


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
    "4: no space after the status": (
        b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        Read(200, b"", True),
    ),
    "4: obs-text in the reason": (
        b"HTTP/1.1 404 \xe4\r\nContent-Length: 0\r\n\r\n",
        Read(404, b"", True),
    ),
    "4: a status without a name": (
        b"HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n",
        Read(599, b"", True),
    ),
    "2.2: an empty line before": (
        b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        Read(200, b"", True),
    ),
    "2.2: an empty line after": (
        OK + b"Content-Length: 2\r\n\r\nab\r\n",
        Read(200, b"ab", True),
    ),
    "6.3: 204 has no body, whatever its length says": (
        b"HTTP/1.1 204 X\r\nContent-Length: 9\r\n\r\n",
        Read(204, b"", True),
    ),
    "6.3: 204 has no chunks": (
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        Read(204, b"", True),
    ),
    "6.3: 304 has no chunks": (
        b"HTTP/1.1 304 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        Read(304, b"", True),
    ),
    "6.3: 304 without any length": (b"HTTP/1.1 304 X\r\n\r\n", Read(304, b"", True)),
    "6.3: 1xx have no body, whatever their length says": (
        b"HTTP/1.1 103 E\r\nContent-Length: 9\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        Read(200, b"", True),
    ),
    "6.3: an empty body until the end of the connection": (OK + b"\r\n", Read(200, b"", False)),
    "9110 15.2: only a 1xx so far": (b"HTTP/1.1 103 E\r\n\r\n", Read(0, b"", False)),
    "9110 15.2: many 1xx, also unknown ones": (
        5 * b"HTTP/1.1 102 P\r\n\r\n"
        + b"HTTP/1.1 199 X\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n",
        Read(200, b"", True),
    ),
    "9110 7.8: an offer to upgrade is none": (
        OK + b"Upgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nab",
        Read(200, b"ab", True),
    ),
    "9110 7.8: an offer to upgrade, in chunks": (
        OK
        + b"Upgrade: h2\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"2\r\nab\r\n0\r\n\r\n",
        Read(200, b"ab", True),
    ),
    "9110 15.5.22: 426": (
        b"HTTP/1.1 426 U\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n",
        Read(426, b"", True),
    ),
    "7.1.1: chunk extensions are ignored": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n0;c\r\n\r\n",
        Read(200, b"ab", True),
    ),
    "7.1: the data look like the last chunk": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        Read(200, b"0\r\n\r\n", True),
    ),
    "7.1.2: trailers that are not complete": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n",
        Read(200, b"", False),
    ),
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
    "4: a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "4: a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "4: status 000": b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
    "4: HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "4: another protocol": b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
    "4: a request": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "4: TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "6.3: the same Content-Length twice": OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "6.3: a list as Content-Length": OK + b"Content-Length: 1, 1\r\n\r\na",
    "6.3: a negative Content-Length": OK + b"Content-Length: -1\r\n\r\n",
    "6.3: an empty Content-Length": OK + b"Content-Length:\r\n\r\n",
    "6.3: a huge Content-Length": OK + b"Content-Length: " + 30 * b"9" + b"\r\n\r\n",
    "6.1: another coding in a field before": (
        OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "6.1: identity": OK + b"Transfer-Encoding: identity\r\n\r\nab",
    "6.1: chunked is not the last coding": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nab",
    "7.1: bare LF after a chunk size": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n"
    ),
    "7.1: a chunk longer than it says": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"
    ),
    "7.1: a chunk size that overflows": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + 17 * b"f" + b"\r\n"
    ),
    "5.1: space before the colon": OK + b"X : 1\r\nContent-Length: 0\r\n\r\n",
    "2.2: bare CR in a value": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "2.2: bare LF after a field": OK + b"X: a\nContent-Length: 0\r\n\r\n",
    "9110 15.2: a body after 1xx": (
        b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 0\r\n\r\n"
    ),
    "limit: 1xx without end": 15_000 * b"HTTP/1.1 103 E\r\n\r\n",
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


@pytest.mark.parametrize("case", [case for case in REFUSED if len(REFUSED[case]) < 500])
def test_a_fault_is_found_however_it_arrives(case: str) -> None:
    data = REFUSED[case]
    for cut in range(1, len(data)):
        assert read(data[:cut], data[cut:]) == "refused"
    assert read(*(data[at : at + 1] for at in range(len(data)))) == "refused"


@pytest.mark.parametrize(
    "after",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        OK + b"Content-Length: 1\r\n\r\nx",
        b"HTTP/1.1 100 C\r\n\r\n",
        b"HTTP/1.1 2",
        b"XYZ",
        b"\x00",
    ],
)
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
def test_what_follows_a_response_is_noticed_and_does_it_no_harm(
    method: bytes, response: bytes, after: bytes
) -> None:
    found = read(response + after, method=method)
    assert isinstance(found, Read)
    assert (found.complete, found.overrun) == (True, True)
    assert found.body == read(response, method=method)[1]  # type: ignore[index]


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
def test_more_than_content_length_is_cut_off_and_the_connection_not_used_again(
    close: bytes,
) -> None:
    found = read(OK + close + b"Content-Length: 2\r\n\r\nabXYZ")
    assert found == Read(200, b"ab", True, overrun=True)


def test_what_follows_in_a_later_read_is_noticed_too() -> None:
    parser = ResponseParser()
    parser.expect(b"HEAD")
    parser.receive(OK + b"Content-Length: 2\r\n\r\n")
    assert not parser.overrun
    parser.receive(b"ab")
    assert parser.overrun


def test_a_response_to_head_after_1xx_is_complete() -> None:
    found = read(b"HTTP/1.1 103 E\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n", method=b"HEAD")
    assert isinstance(found, Read)
    assert (found.status, found.body, found.complete) == (200, b"", True)


def test_informational_responses_come_in_order_with_their_fields() -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.receive(b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: </a>\r\nlink: </b>\r\n\r\n" + OK)
    assert [(one.status, one.headers) for one in parser.informational] == [
        (100, []),
        (103, [(b"link", b"</a>"), (b"link", b"</b>")]),
    ]
    assert parser.response is None
    parser.receive(b"X: 1\r\nContent-Length: 0\r\n\r\n")
    assert parser.response is not None
    assert parser.response.headers == [(b"x", b"1"), (b"content-length", b"0")]


def test_trailers_stand_apart_from_the_fields_of_the_head() -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.receive(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 0\r\n\r\n")
    assert parser.response is not None
    assert parser.response.headers == [(b"transfer-encoding", b"chunked")]
    assert parser.response.trailers == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    ("response", "until_close"),
    [
        (OK + b"\r\nab", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nab", True),
        (OK + b"Content-Length: 3\r\n\r\nab", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", False),
        (b"HTTP/1.1 204 X\r\n\r\n", False),
        (b"HTTP/1.1 304 X\r\n\r\n", False),
    ],
)
def test_only_without_any_length_does_the_end_of_the_connection_complete_a_response(
    response: bytes, until_close: bool
) -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.receive(response)
    assert parser.response is not None
    assert parser.response.until_close is until_close
    assert not (parser.response.until_close and parser.response.keep_alive)


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
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
        # 6.1: the framing of such a message is not to be relied on.
        (
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
            False,
        ),
        (OK + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", True),
    ],
)
def test_whether_the_connection_can_be_used_again(head: bytes, keep_alive: bool) -> None:
    parser = ResponseParser()
    parser.expect(b"GET")
    parser.receive(head)
    assert parser.response is not None
    assert parser.response.keep_alive is keep_alive


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from(
            [OK, b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 103 E\r\n\r\n", b"\r\n", b"\n", b"\x00"]
        ),
        st.sampled_from([b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n"]),
        st.sampled_from([b"ab", b"2\r\nab\r\n", b"0\r\n\r\n", b"Connection: close\r\n"]),
    ),
    max_size=10,
)
CUTS = st.lists(st.integers(0, 150), min_size=1, max_size=4)
METHODS = st.sampled_from([b"GET", b"HEAD"])


def check_cut(data: bytes, method: bytes, cuts: list[int]) -> None:
    """Cut anywhere, ``data`` are the same response: never another, and refused or not."""
    whole = read(data, method=method)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    cut = read(*(data[low:high] for low, high in pairwise(edges)), method=method)
    if isinstance(whole, str) or isinstance(cut, str):
        assert cut == whole
    else:  # what follows a response is not read any more once it is complete
        assert cut[:3] == whole[:3]


@settings(max_examples=800)
@given(PIECES, METHODS, CUTS)
def test_any_bytes_are_one_response_or_refused_however_they_are_cut(
    pieces: list[bytes], method: bytes, cuts: list[int]
) -> None:
    check_cut(b"".join(pieces), method, cuts)
    check_cut(OK + b"".join(pieces), method, cuts)


BYTES = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b"0", b"1", b","])
MUTATIONS = st.tuples(
    st.integers(0, 150), st.integers(0, 2), st.one_of(BYTES, st.binary(max_size=2))
)


@settings(max_examples=800)
@given(st.sampled_from(sorted(READ)), st.lists(MUTATIONS, min_size=1, max_size=3), METHODS, CUTS)
def test_damaged_responses_are_one_response_or_refused_however_they_are_cut(
    case: str, mutations: list[tuple[int, int, bytes]], method: bytes, cuts: list[int]
) -> None:
    data = READ[case][0]
    for at, removed, put in mutations:
        data = data[:at] + put + data[at + removed :]
    check_cut(data, method, cuts)


@pytest.mark.parametrize("size", [1000, 100_000])
def test_trailers_without_end_are_refused(size: int) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    field = b"X: " + b"x" * size + b"\r\n"
    assert read(head, *[field] * (2 * MAX_RESPONSE_HEAD // size)) == "refused"


def test_a_body_may_be_of_any_size() -> None:
    piece = b"x" * 100_000
    head = OK + b"Content-Length: %d\r\n\r\n" % (50 * len(piece))
    assert read(head, *[piece] * 50) == Read(200, piece * 50, True)
