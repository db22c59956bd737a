"""Requests of clients in HTTP/2: what is no valid request (RFC 9113 section 8)."""

from __future__ import annotations

from siger_gateway.http2.faults import (
    NO_ERROR,
)
from tests.protocol.http2_cases import (
    GOES_ON,
    ServerCase,
    malformed,
)
from tests.protocol.http2_peer import (
    HELLO,
    Fields,
    head,
    post,
    request,
)


def without(*names: bytes) -> Fields:
    return [one for one in request() if one[0] not in names]


MALFORMED = [
    malformed("8.1.1", "no pseudo-headers", [(b"host", b"a")]),
    malformed("8.1.1", "no fields at all", []),
    malformed("8.3", "an unknown pseudo-header", [*request(), (b":test", b"x")]),
    malformed("8.3", "a pseudo-header of responses", [*request(), (b":status", b"200")]),
    malformed(
        "8.3",
        "a pseudo-header behind a field",
        [*without(b":path"), (b"a", b"b"), (b":path", b"/")],
    ),
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
    ServerCase(
        "10.1.1",
        "another expectation",
        (HELLO, head(1, request(b"/", (b"expect", b"200-maybe")))),
        GOES_ON,
        {1: 417},
        {1: NO_ERROR},
    ),
    ServerCase(
        "10.5.1",
        "more fields than are taken",
        (HELLO, head(1, request(b"/", *[(b"a", b"b")] * 130))),
        GOES_ON,
        {1: 431},
        {1: NO_ERROR},
    ),
    ServerCase(
        "10.5.1",
        "larger fields than are taken",
        (HELLO, head(1, request(b"/", (b"a", bytes(13000).replace(b"\0", b"x"))))),
        GOES_ON,
        {1: 431},
        {1: NO_ERROR},
    ),
    ServerCase(
        "8.1.1",
        "a Content-Length above the limit",
        (HELLO, post(1, b"/", (b"content-length", b"1000001"))),
        GOES_ON,
        {1: 413},
        {1: NO_ERROR},
    ),
]


CASES = MALFORMED
