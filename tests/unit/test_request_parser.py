"""The server side of the HTTP/1.1 parser: a table of what a client may send, and what it means.

Sections are those of RFC 9112 unless RFC 9110 is named.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.errors import REASONS
from siger_gateway.http.headers import MAX_FIELDS, is_token
from siger_gateway.http1.request_parser import RequestParser

Read = tuple[list[tuple[bytes, bytes, bytes, bool]], str | None]


def read(*pieces: bytes, header_limit: int = 8192, body_limit: int = 10_000) -> Read:
    """Every request as (method, target, body, complete), and the reason of the refusal; no upgrade
    comes about."""
    parser = RequestParser(header_limit, body_limit)
    bodies: dict[int, bytes] = {}
    for piece in pieces:
        if parser.error is not None:
            break
        parser.receive(piece)
        while parser.held:
            parser.decline_upgrade()
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
    "9110 7.8: an Upgrade is declined": (
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
    "5: a tab inside a value": (HEAD + b"X: a\tb\r\n\r\n", [GET_REQUEST]),
    "2.2: empty lines between requests": (
        HEAD + b"\r\n\r\n\r\n" + HEAD + b"\r\n",
        [GET_REQUEST] * 2,
    ),
    "3.2.1: a path that begins with two slashes is no authority": (
        b"GET //evil/x HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"GET", b"//evil/x", b"", True)],
    ),
    "3.2.1: an encoded # is no fragment": (
        b"GET /%23?%23 HTTP/1.1\r\nHost: a\r\n\r\n",
        [(b"GET", b"/%23?%23", b"", True)],
    ),
    "6.3: a body with GET": (
        HEAD + b"Content-Length: 3\r\n\r\nabc" + HEAD + b"\r\n",
        [(b"GET", b"/", b"abc", True), GET_REQUEST],
    ),
    "6.3: the body looks like a request, and is none": (
        POST + b"Content-Length: 26\r\n\r\nGET /x HTTP/1.1\r\nHost: b\r\n" + HEAD + b"\r\n",
        [(b"POST", b"/", b"GET /x HTTP/1.1\r\nHost: b\r\n", True), GET_REQUEST],
    ),
    "6.3: leading zeros in Content-Length": (
        POST + b"Content-Length: 0003\r\n\r\nabc",
        [(b"POST", b"/", b"abc", True)],
    ),
    "5.1: whitespace around Content-Length": (
        POST + b"Content-Length:\t 3 \r\n\r\nabc",
        [(b"POST", b"/", b"abc", True)],
    ),
    "6.1: a field that only looks like Transfer-Encoding": (
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\n",
        [(b"POST", b"/", b"0\n", True)],
    ),
    "7.1: leading zeros in a chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0003\r\nabc\r\n000\r\n\r\n",
        [(b"POST", b"/", b"abc", True)],
    ),
    "7.1: the chunk's data look like the last chunk": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        [(b"POST", b"/", b"0\r\n\r\n", True)],
    ),
    "7.1.1: chunk extensions are ignored": (
        POST + b'Transfer-Encoding: chunked\r\n\r\n3;a;b=c;d="e"\r\nabc\r\n0;f\r\n\r\n',
        [(b"POST", b"/", b"abc", True)],
    ),
    "9110 7.8: an Upgrade to HTTP/2 is ignored, and what follows is read": (
        HEAD
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        + POST
        + b"Content-Length: 1\r\n\r\nx",
        [GET_REQUEST, (b"POST", b"/", b"x", True)],
    ),
    "9110 7.8: Upgrade without Connection": (
        HEAD + b"Upgrade: websocket\r\n\r\n" + HEAD + b"\r\n",
        [GET_REQUEST] * 2,
    ),
    "9110 7.8: an Upgrade whose body is not there yet": (
        POST + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n\r\na",
        [(b"POST", b"/", b"a", False)],
    ),
    "9110 10.1.1: Expect twice": (
        POST + b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        [(b"POST", b"/", b"", True)],
    ),
    "C.2.2: Proxy-Connection": (
        HEAD + b"Proxy-Connection: keep-alive\r\n\r\n" + HEAD + b"\r\n",
        [GET_REQUEST] * 2,
    ),
    "2.3: HTTP/1.0 with a body": (
        b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
        [(b"POST", b"/", b"x", True)],
    ),
}

REFUSED = {
    "3: lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3: unknown method": (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: no version": (b"GET /\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version_not_supported"),
    "2.3: HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: lower-case http": (b"GET / http/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "9113 3.4: the preface of HTTP/2": (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "version_not_supported",
    ),
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
    "2.3: HTTP/0.9 behind Proxy-Connection": (
        b"GET / HTTP/0.9\r\nHost: a\r\nProxy-Connection: keep-alive\r\n\r\n",
        "version_not_supported",
    ),
    "2.3: HTTP/2.0 behind Proxy-Connection": (
        b"GET / HTTP/2.0\r\nHost: a\r\nProxy-Connection: keep-alive\r\n\r\n",
        "version_not_supported",
    ),
    "2.3: HTTP/3.0": (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: two digits of a version": (b"GET / HTTP/1.01\r\nHost: a\r\n\r\n", "bad_request"),
    "2.3: a comma in a version": (b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", "bad_request"),
    "9113 3.4: the preface, with a Host": (
        b"PRI * HTTP/2.0\r\nHost: a\r\n\r\nSM\r\n\r\n",
        "version_not_supported",
    ),
    "6.1: a coding with HTTP/1.0 behind Proxy-Connection": (
        b"POST / HTTP/1.0\r\nHost: a\r\nProxy-Connection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: another coding in a field before": (
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: another coding in a field after": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: identity in a field before": (
        POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: an empty coding": (POST + b"Transfer-Encoding:\r\n\r\n", "bad_request"),
    "6.1: an empty member of the list": (
        POST + b"Transfer-Encoding: , chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: a parameter": (
        POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: quotes": (
        POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
        "bad_request",
    ),
    "6.1: a vertical tab before the coding": (
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.1: Content-Length 0 with Transfer-Encoding": (
        POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "6.3: an empty Content-Length": (POST + b"Content-Length:\r\n\r\n", "bad_request"),
    "6.3: a space in Content-Length": (
        POST + b"Content-Length: 1 0\r\n\r\n0123456789",
        "bad_request",
    ),
    "6.3: an underscore in Content-Length": (
        POST + b"Content-Length: 1_0\r\n\r\n0123456789",
        "bad_request",
    ),
    "6.3: a fraction as Content-Length": (
        POST + b"Content-Length: 3.0\r\n\r\nabc",
        "bad_request",
    ),
    "6.3: a vertical tab before Content-Length": (
        POST + b"Content-Length: \x0b3\r\n\r\nabc",
        "bad_request",
    ),
    "6.3: folded Content-Length": (
        POST + b"Content-Length:\r\n 3\r\n\r\nabc",
        "bad_request",
    ),
    "7.1: space after a chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: a signed chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: a negative chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: no chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: bare CR after a chunk size": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\rabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: bare LF after a chunk": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1: bare LF after the last chunk": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
        "bad_request",
    ),
    "7.1.1: NUL in a chunk extension": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=\x00\r\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1.1: bare LF in a chunk extension": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n",
        "bad_request",
    ),
    "7.1.2: Content-Length as a trailer": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
        "bad_request",
    ),
    "7.1.2: Transfer-Encoding as a trailer": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n",
        "bad_request",
    ),
    "7.1.2: a folded trailer": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n",
        "bad_request",
    ),
    "7.1.2: a bare LF in the trailers": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n",
        "bad_request",
    ),
    "3: a tab after the method": (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3: a space in the target": (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3: space after the version": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "bad_request"),
    "3: space before the method": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: an empty path": (b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: a fragment after a query": (b"GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: a relative path": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2: a NUL": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2.2: absolute-form of https": (
        b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "bad_request",
    ),
    "3.2.2: absolute-form of another host": (
        b"GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "bad_request",
    ),
    "3.2.3: authority-form with GET": (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2.3: CONNECT with a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request"),
    "3.2.3: CONNECT, and bytes for the tunnel": (
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "bad_request",
    ),
    "2.2: LF alone ends the head": (HEAD + b"\n", "bad_request"),
    "2.2: CR alone ends the head": (HEAD + b"\rX", "bad_request"),
    "2.2: bare CR between fields": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "bad_request"),
    "5: DEL in a value": (HEAD + b"X: \x7f\r\n\r\n", "bad_request"),
    "5: NUL in a name": (HEAD + b"X\x00: 1\r\n\r\n", "bad_request"),
    "5.1: a tab before the colon": (HEAD + b"X\t: 1\r\n\r\n", "bad_request"),
    "5.1: a name that is not ASCII": (HEAD + b"X\xe4: 1\r\n\r\n", "bad_request"),
    "5.1: space before the colon of Content-Length": (
        POST + b"Content-Length : 3\r\n\r\nabc",
        "bad_request",
    ),
    "5.2: obs-fold with a tab": (HEAD + b"X: 1\r\n\t2\r\n\r\n", "bad_request"),
    "5.2: obs-fold of Transfer-Encoding": (
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "bad_request",
    ),
    "9110 10.1.1: another expectation before": (
        POST + b"Expect: x\r\nExpect: 100-continue\r\n\r\n",
        "expectation_failed",
    ),
    "9110 10.1.1: a list of expectations": (
        POST + b"Expect: 100-continue, x\r\n\r\n",
        "expectation_failed",
    ),
    "9110 10.1.1: an empty expectation": (POST + b"Expect:\r\n\r\n", "expectation_failed"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + 40 * b"\x00", "bad_request"),
    "PROXY protocol": (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + HEAD + b"\r\n", "bad_request"),
    "limit: the body of an Upgrade": (
        POST + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 10001\r\n\r\n",
        "body_too_large",
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
    for cut in range(1, min(len(data), 300)):
        assert read(data[:cut], data[cut:])[1] == reason


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"0\r\n", b"X: " + 500 * b"x" + b"\r\n"),
        (b"0\r\nX: ", 500 * b"x"),
        (b"3;", 500 * b"x"),
        (b"3\r\nabc\r\n3;a=", 500 * b"x"),
    ],
    ids=["trailers", "one trailer", "a chunk extension", "a later chunk extension"],
)
def test_what_is_neither_head_nor_body_does_not_grow_without_end(
    before: bytes, piece: bytes
) -> None:
    assert read(CHUNKED + before, *(20 * [piece])) == ([], "headers_too_large")


def test_small_chunks_are_no_framing_without_end() -> None:
    body = b"".join(b"1\r\n%c\r\n" % (97 + number % 26) for number in range(5000)) + b"0\r\n\r\n"
    pieces = (body[at : at + 1] for at in range(len(body)))
    ((*_, received, complete),), reason = read(CHUNKED, *pieces, header_limit=100)
    assert (len(received), complete, reason) == (5000, True, None)


@pytest.mark.parametrize("size", [1, 7, 31, 100, 1448, 100_000])
def test_many_small_heads_are_no_large_one_however_they_are_cut(size: int) -> None:
    data = 300 * (HEAD + b"\r\n") + POST + b"Content-Length: 500\r\n\r\n" + 500 * b"x"
    data += 100 * (HEAD + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n") + HEAD + b"\r\n"
    messages, reason = read(
        *(data[at : at + size] for at in range(0, len(data), size)), header_limit=100
    )
    assert (len(messages), reason) == (402, None)


def test_a_head_behind_a_large_read_may_still_be_chunked_slowly() -> None:
    pieces = (20 * (HEAD + b"\r\n") + CHUNKED, b"5\r\n", b"hello\r\n0\r\n\r\n")
    messages, reason = read(*pieces, header_limit=100)
    assert (messages[-1], reason) == ((b"POST", b"/", b"hello", True), None)


def test_upgrades_in_one_read_need_no_deep_stack() -> None:
    upgrade = HEAD + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert read(3000 * upgrade + HEAD + b"\r\n") == ([GET_REQUEST] * 3001, None)


UPGRADE = HEAD + b"Connection: keep-alive, Upgrade\r\nUpgrade: a/1, websocket\r\n\r\n"


@pytest.mark.parametrize("cut", [0, 1, 20, len(HEAD)])
def test_what_follows_an_upgrade_waits_until_its_protocol_is_known(cut: int) -> None:
    parser = RequestParser(8192, 10_000)
    behind = HEAD + b"\r\nnot HTTP"
    parser.receive(HEAD + b"\r\n" + UPGRADE + behind[:cut])
    parser.receive(behind[cut:])
    assert [request.upgrade for request in parser.started] == [None, b"a/1, websocket"]
    assert (parser.held, parser.error) == (behind, None)
    parser.decline_upgrade()
    assert (len(parser.started), parser.held) == (3, None)
    assert parser.error is not None


@pytest.mark.parametrize(
    "field", [b"Upgrade: h2c", b"Upgrade: x, H2C", b"Upgrade: TLS/1.0", b"Upgrade: x y"]
)
def test_no_tunnel_for_what_would_hide_requests(field: bytes) -> None:
    parser = RequestParser(8192, 10_000)
    parser.receive(HEAD + b"Connection: upgrade\r\n" + field + b"\r\n\r\n" + HEAD + b"\r\n")
    assert [request.upgrade for request in parser.started] == [None, None]


def test_the_first_fault_stays_the_reason() -> None:
    parser = RequestParser(8192, 100)
    parser.receive(POST + b"Content-Length: 101\r\n\r\n")
    for data in (101 * b"x", HEAD + b"\r\n", 20_000 * b"x", b"\x00"):
        parser.receive(data)
        assert parser.error is not None
        assert parser.error.reason == "body_too_large"
        assert parser.started == []


def test_trailers_stand_apart_from_the_fields_of_the_head() -> None:
    parser = RequestParser(8192, 100)
    parser.receive(CHUNKED + b"0\r\nHost: evil\r\nX-T: 1\r\n\r\n")
    (request,) = parser.started
    assert request.trailers == [(b"host", b"evil"), (b"x-t", b"1")]
    assert request.fields == {b"host": b"a", b"transfer-encoding": b"chunked"}
    parser.receive(HEAD + b"\r\n")
    assert parser.started[-1].trailers == []


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a:80",
        b"a:",
        b"A.b-c_d~",
        b"1.2.3.4:5",
        b"[::1]",
        b"[::1]:80",
        b"[fe80::1%25e]",
        b"a..b",
    ],
)
def test_a_host_is_a_name_or_an_address_and_maybe_a_port(host: bytes) -> None:
    assert read(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == ([GET_REQUEST], None)


@pytest.mark.parametrize(
    "host",
    [
        *(
            b":80",
            b":",
            b"a:x",
            b"a:b:c",
            b"a:80:90",
            b"a:-1",
            b"a:+1",
            b"a:8 0",
            b"::1",
            b"[::1",
            b"::1]",
        ),
        *(
            b"[]",
            b"[x]y",
            b"[::1]x",
            b"[::1]:x",
            b"[::1]80",
            b"a]",
            b"a[b]",
            b"[a]b]",
            b"a/",
            b"a\\b",
        ),
        *(
            b"a?b",
            b"a#b",
            b"a@b",
            b"a,b",
            b"a b",
            b"a\tb",
            b"\xc3\xa4",
            b'"a"',
            b"<a>",
            b"a|b",
            b"a^b",
        ),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_no_other_host_is_taken_in_any_version(host: bytes, version: bytes) -> None:
    head = b"GET / HTTP/" + version + b"\r\nHost: " + host + b"\r\n\r\n"
    assert read(head) == ([], "bad_request")
    # The parser remembers a Host that was good.
    assert read(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + head) == ([GET_REQUEST], "bad_request")


@pytest.mark.parametrize("second", [b"Host: a\r\n", b"host: b\r\n", b"HOST:\r\n"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_two_hosts_are_refused_in_any_version(second: bytes, version: bytes) -> None:
    head = b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + second + b"\r\n"
    assert read(head) == ([], "bad_request")


def test_a_host_that_was_good_does_not_stand_for_a_missing_one() -> None:
    assert read(HEAD + b"\r\nGET / HTTP/1.1\r\n\r\n") == ([GET_REQUEST], "bad_request")


@pytest.mark.parametrize("size", [100, 1000])
def test_limits_are_exact_to_the_byte(size: int) -> None:
    """Of target and fields, as they are written on."""
    fields = len(b"/host: a\r\n")
    filler = b"X: " + (size - fields - len(b"X: \r\n")) * b"x" + b"\r\n"
    assert read(HEAD + filler + b"\r\n", header_limit=size) == ([GET_REQUEST], None)
    assert read(HEAD + b"Y" + filler + b"\r\n", header_limit=size) == ([], "headers_too_large")
    body = POST + b"Content-Length: %d\r\n\r\n"
    assert read(body % size + size * b"x", body_limit=size)[1] is None
    assert read(body % (size + 1), body_limit=size) == ([], "body_too_large")


def test_as_many_fields_as_are_allowed_are_read() -> None:
    assert read(HEAD + b"X: 1\r\n" * (MAX_FIELDS - 1) + b"\r\n") == ([GET_REQUEST], None)


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


def check_what_was_accepted(parser: RequestParser) -> None:
    """What must hold of every accepted request, whatever was sent."""
    for request in parser.started:
        names = [name for name, _ in request.headers]
        assert request.target[:1] == b"/" or (request.target, request.method) == (b"*", b"OPTIONS")
        assert b"#" not in request.target
        assert request.method.isupper()
        assert names.count(b"host") == 1 or (request.http10 and b"host" not in names)
        framing = names.count(b"content-length") + names.count(b"transfer-encoding")
        assert framing == (0 if request.content_length == 0 else 1) or (
            framing == 1 and int(request.fields[b"content-length"]) == 0
        )
        assert request.content_length is not None or not request.http10
        for name, value in [*request.headers, *request.trailers]:
            assert name == name.lower()
            assert is_token(name)
            assert not set(value) & set(b"\r\n\x00")


def check_cut(data: bytes, *cuts: int) -> None:
    """Cut anywhere, ``data`` are the same requests, and refused or not."""
    parser = RequestParser(8192, 10_000)
    parser.receive(data)
    check_what_was_accepted(parser)
    if parser.error is not None:
        assert parser.error.reason in REASONS
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    messages, reason = read(data)
    cut_messages, cut_reason = read(*(data[low:high] for low, high in pairwise(edges)))
    assert cut_messages == messages
    assert (cut_reason is None) == (reason is None)


CUTS = st.lists(st.integers(0, 200), min_size=1, max_size=4)


@settings(max_examples=800)
@given(PIECES, CUTS)
def test_any_bytes_are_read_alike_however_they_are_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    check_cut(b"".join(pieces), *cuts)


SHORT = sorted(case for case, (data, _) in ACCEPTED.items() if len(data) < 250)
BYTES = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b"0", b"1", b","])
MUTATIONS = st.tuples(
    st.integers(0, 250), st.integers(0, 2), st.one_of(BYTES, st.binary(max_size=2))
)


@settings(max_examples=800)
@given(
    st.lists(st.sampled_from(SHORT), min_size=1, max_size=3),
    st.lists(MUTATIONS, min_size=1, max_size=3),
    CUTS,
)
def test_damaged_requests_are_read_alike_however_they_are_cut(
    cases: list[str], mutations: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(ACCEPTED[case][0] for case in cases)
    for at, removed, put in mutations:
        data = data[:at] + put + data[at + removed :]
    check_cut(data, *cuts)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise_anything(data: bytes) -> None:
    check_cut(data, len(data) // 2)
    check_cut(HEAD + data, len(data) // 2)
    check_cut(CHUNKED + data, len(data) // 2)
