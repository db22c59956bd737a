"""The server side of the HTTP/1.1 parser: a table of what a client may send, and what it means.

Sections are those of RFC 9112 unless RFC 9110 is named.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http1.parser import MAX_FIELDS, RequestParser

Read = tuple[list[tuple[bytes, bytes, bytes, bool]], str | None]


def read(*pieces: bytes, header_limit: int = 8192, body_limit: int = 10_000) -> Read:
    """Every request as (method, target, body, complete), and the reason of the refusal."""
    parser = RequestParser(header_limit, body_limit)
    bodies: dict[int, bytes] = {}
    for piece in pieces:
        if parser.error is not None:
            break
        parser.receive(piece)
        for request in parser.started:
            bodies[id(request)] = bodies.get(id(request), b"") + request.take_body()
    messages = [
        (request.method, request.target, bodies[id(request)], request.complete)
        for request in parser.started
    ]
    return messages, parser.error.reason if parser.error is not None else None


HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET_REQUEST = (b"GET", b"/", b"", True)

ACCEPTED = {
    "a request": (HEAD + b"\r\n", [GET_REQUEST]),
    "2.2: an empty line before the request line is skipped": (
        b"\r\n" + HEAD + b"\r\n",
        [GET_REQUEST],
    ),
    "9.3.2: pipelined requests": (2 * (HEAD + b"\r\n"), [GET_REQUEST] * 2),
    "6.3: Content-Length": (
        POST + b"Content-Length: 3\r\n\r\nabc",
        [(b"POST", b"/", b"abc", True)],
    ),
    "6.3: Content-Length 0": (POST + b"Content-Length: 0\r\n\r\n", [(b"POST", b"/", b"", True)]),
    "6.3: a body that is not there yet": (
        POST + b"Content-Length: 5\r\n\r\nab",
        [(b"POST", b"/", b"ab", False)],
    ),
    "6.3: the next request begins where the body ends": (
        POST + b"Content-Length: 3\r\n\r\nabc" + HEAD + b"\r\n",
        [(b"POST", b"/", b"abc", True), GET_REQUEST],
    ),
    "7.1: chunks": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        [(b"POST", b"/", b"abcde", True)],
    ),
    "7.1: chunk sizes in either case": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        [(b"POST", b"/", b"0123456789" * 2, True)],
    ),
    "7: the coding's name in any case": (
        POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n",
        [(b"POST", b"/", b"", True)],
    ),
    "7.1.2: trailers, and the next request": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n" + HEAD + b"\r\n",
        [(b"POST", b"/", b"", True), GET_REQUEST],
    ),
    "3.2.4: asterisk-form": (
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"OPTIONS", b"*", b"", True)],
    ),
    "9110 7.8: an Upgrade is ignored": (
        HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + HEAD + b"\r\n",
        [GET_REQUEST] * 2,
    ),
    "9110 7.8: an Upgrade with a body is ignored": (
        POST
        + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
        + HEAD
        + b"\r\n",
        [(b"POST", b"/", b"abc", True), GET_REQUEST],
    ),
    "9110 7.8: an Upgrade with chunks is ignored": (
        POST
        + b"Connection: upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"3\r\nabc\r\n0\r\n\r\n"
        + HEAD
        + b"\r\n",
        [(b"POST", b"/", b"abc", True), GET_REQUEST],
    ),
    "3.2: HTTP/1.0 needs no Host": (b"GET / HTTP/1.0\r\n\r\n", [GET_REQUEST]),
    "9110 10.1.1: Expect": (
        POST + b"Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        [(b"POST", b"/", b"x", True)],
    ),
    "3.2: IPv6 Host": (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", [GET_REQUEST]),
    "3: two spaces after the target, which is written anew": (
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        [GET_REQUEST],
    ),
    "5: an empty value": (HEAD + b"X:\r\n\r\n", [GET_REQUEST]),
    "5: obs-text in a value": (HEAD + b"X: \xe4\xff\r\n\r\n", [GET_REQUEST]),
}

REFUSED = {
    "3: lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3: unknown method": (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: no version": (b"GET /\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: lower-case http": (b"GET / http/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "9113 3.4: the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request"),
    "3.2: no Host": (b"GET / HTTP/1.1\r\n\r\n", "bad_request"),
    "3.2: two Hosts": (HEAD + b"Host: b\r\n\r\n", "bad_request"),
    "3.2: the same Host twice": (HEAD + b"Host: a\r\n\r\n", "bad_request"),
    "3.2: an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", "bad_request"),
    "3.2: a list as Host": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "bad_request"),
    "3.2: a space in Host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad_request"),
    "3.2: a slash in Host": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad_request"),
    "3.2: user information in Host": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad_request"),
    "3.2.2: absolute-form": (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2.3: authority-form": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2.4: asterisk-form with GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: a fragment": (b"GET /#f HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: not ASCII": (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: a control character": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "2.2: bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", "bad_request"),
    "2.2: bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "bad_request"),
    "2.2: bare CR in a value": (HEAD + b"X: a\rb\r\n\r\n", "bad_request"),
    "5: NUL in a value": (HEAD + b"X: a\x00b\r\n\r\n", "bad_request"),
    "5.1: space before the colon": (HEAD + b"X : 1\r\n\r\n", "bad_request"),
    "5.1: no colon": (HEAD + b"X\r\n\r\n", "bad_request"),
    "5.1: an empty name": (HEAD + b": 1\r\n\r\n", "bad_request"),
    "5.1: a name that is no token": (HEAD + b"X(: 1\r\n\r\n", "bad_request"),
    "5.2: obs-fold": (HEAD + b"X: 1\r\n  2\r\n\r\n", "bad_request"),
    "2.2: space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "bad_request"),
    "6.1: Content-Length with Transfer-Encoding": (
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "bad_request",
    ),
    "6.1: the same, the other way round": (
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "bad_request",
    ),
    "6.3: two Content-Lengths": (
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "bad_request",
    ),
    "6.3: the same Content-Length twice": (
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "bad_request",
    ),
    "6.3: a list as Content-Length": (POST + b"Content-Length: 3, 3\r\n\r\nabc", "bad_request"),
    "6.3: a negative Content-Length": (POST + b"Content-Length: -1\r\n\r\n", "bad_request"),
    "6.3: a signed Content-Length": (POST + b"Content-Length: +3\r\n\r\nabc", "bad_request"),
    "6.3: a hexadecimal Content-Length": (POST + b"Content-Length: 0x3\r\n\r\n", "bad_request"),
    "6.3: a huge Content-Length": (
        POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
        "bad_request",
    ),
    "6.1: another coding": (POST + b"Transfer-Encoding: gzip\r\n\r\n", "bad_request"),
    "6.1: another coding before chunked": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: chunked twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: chunked, identity": (
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: a coding that only looks like chunked": (
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: a coding with HTTP/1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: a chunk size that is no number": (
        POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        "bad_request",
    ),
    "7.1: a chunk size with a prefix": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: a chunk size that overflows": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n",
        "bad_request",
    ),
    "7.1: a chunk longer than it says": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: bare LF after a chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "9110 10.1.1: another expectation": (POST + b"Expect: x\r\n\r\n", "expectation_failed"),
    "9.6: data after Connection: close": (
        HEAD + b"Connection: close\r\n\r\n" + HEAD + b"\r\n",
        "bad_request",
    ),
    "limit: the body": (POST + b"Content-Length: 10001\r\n\r\n", "body_too_large"),
    "limit: the target": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", "uri_too_long"),
    "limit: an unfinished target": (b"GET /" + b"x" * 9000, "uri_too_long"),
    "limit: the head": (HEAD + b"X: " + b"x" * 9000 + b"\r\n\r\n", "headers_too_large"),
    "limit: an unfinished head": (HEAD + b"X: " + b"x" * 9000, "headers_too_large"),
    "limit: the number of fields": (
        HEAD + b"X: 1\r\n" * MAX_FIELDS + b"\r\n",
        "headers_too_large",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_what_is_valid_is_read(case: str) -> None:
    data, messages = ACCEPTED[case]
    assert read(data) == (messages, None)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_it_does_not_matter_where_reads_begin_and_end(case: str) -> None:
    data, messages = ACCEPTED[case]
    for cut in range(1, len(data)):
        assert read(data[:cut], data[cut:]) == (messages, None)
    assert read(*(data[at : at + 1] for at in range(len(data)))) == (messages, None)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_is_not_valid_is_refused_and_never_handed_on_whole(case: str) -> None:
    data, reason = REFUSED[case]
    messages, refused = read(data)
    assert refused == reason
    # Only the request that came before the fault may stand.
    assert messages in ([], [GET_REQUEST])
    assert len(messages) == (case == "9.6: data after Connection: close")


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_fault_is_found_however_it_arrives(case: str) -> None:
    data, reason = REFUSED[case]
    assert read(*(data[at : at + 1] for at in range(len(data))))[1] == reason


def test_a_good_request_before_a_bad_one_is_still_answered() -> None:
    assert read(HEAD + b"\r\n" + b"BAD\r\n\r\n") == ([GET_REQUEST], "bad_request")


def test_names_are_lower_case_and_values_untouched() -> None:
    parser = RequestParser(8192, 100)
    parser.receive(b"GET /p?q HTTP/1.1\r\nHOST: a\r\nX-A:  b C\r\nx-a: d\r\n\r\n")
    (request,) = parser.started
    assert request.headers == [(b"host", b"a"), (b"x-a", b"b C"), (b"x-a", b"d")]
    assert (request.path, request.http10, request.keep_alive) == (b"/p", False, True)


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_whether_the_connection_stays(head: bytes, keep_alive: bool) -> None:
    parser = RequestParser(8192, 100)
    parser.receive(head)
    assert parser.started[0].keep_alive is keep_alive


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([HEAD, POST, b"\r\n", b"\r\n\r\n", b"\n", b" ", b":", b"\x00", b"abc"]),
        st.sampled_from([b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"]),
        st.sampled_from([b"3\r\nabc\r\n", b"0\r\n\r\n", b"Host: b\r\n"]),
        st.sampled_from([b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n"]),
        st.just(b"Expect: 100-continue\r\n"),
    ),
    max_size=12,
)


@settings(max_examples=2000, deadline=None)
@given(PIECES, st.integers(0, 200), st.integers(0, 200))
def test_any_bytes_are_read_alike_however_they_are_cut(
    pieces: list[bytes], first: int, second: int
) -> None:
    data = b"".join(pieces)
    whole = read(data)
    low, high = sorted((first, second))
    cut = read(data[:low], data[low:high], data[high:])
    assert cut[0] == whole[0]
    assert (cut[1] is None) == (whole[1] is None)
