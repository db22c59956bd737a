"""What services answer, and what becomes of it (RFC 9112 sections 4 to 9, RFC 9110 section 15).

A client gets either what the service meant, framed anew, or 502, or a response that is visibly
broken off. And a connection on which a byte too many came serves nobody any more.
"""

from __future__ import annotations

from tests.protocol.cases import GET_1_0, HEAD, ResponseCase, relayed, unusable

OK = b"HTTP/1.1 200 OK\r\n"
GOT = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GOT_CHUNKED = GOT + b"transfer-encoding: chunked\r\n\r\n"
EVIL = OK + b"Content-Length: 4\r\n\r\nevil"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
GOT_EMPTY = GOT + b"content-length: 0\r\n\r\n"


def status(first: bytes) -> bytes:
    return first + b"\r\nContent-Length: 0\r\n\r\n"


def field(raw: bytes) -> bytes:
    return OK + raw + b"Content-Length: 0\r\n\r\n"


def got_field(raw: bytes) -> bytes:
    return GOT + raw + b"content-length: 0\r\n\r\n"


STATUS_LINE: list[ResponseCase] = [
    relayed("9112 4", "a status line", status(b"HTTP/1.1 200 OK"), GOT_EMPTY),
    relayed(
        "9112 4", "another reason phrase is not passed on", status(b"HTTP/1.1 200 Fine"), GOT_EMPTY
    ),
    relayed("9112 4", "no reason phrase", status(b"HTTP/1.1 200 "), GOT_EMPTY),
    relayed("9112 4", "no space behind the status", status(b"HTTP/1.1 200"), GOT_EMPTY),
    relayed("9112 4", "obs-text in the reason phrase", status(b"HTTP/1.1 200 \xe4"), GOT_EMPTY),
    relayed(
        "9110 15",
        "a status that nobody registered",
        status(b"HTTP/1.1 599 X"),
        b"HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n",
    ),
    relayed("9112 2.2", "an empty line before", b"\r\n" + EMPTY, GOT_EMPTY),
    unusable("9110 15", "099", status(b"HTTP/1.1 099 X")),
    unusable("9110 15", "000", status(b"HTTP/1.1 000 X")),
    unusable("9110 15", "600", status(b"HTTP/1.1 600 X")),
    unusable("9110 15", "999", status(b"HTTP/1.1 999 X")),
    unusable("9110 15", "1000", status(b"HTTP/1.1 1000 X")),
    unusable("9110 15", "20", status(b"HTTP/1.1 20 X")),
    unusable("9110 15", "-200", status(b"HTTP/1.1 -200 X")),
    unusable("9110 15", "2e2", status(b"HTTP/1.1 2e2 X")),
    unusable("9112 4", "no status", status(b"HTTP/1.1 OK")),
    unusable("9112 4", "two spaces before the status", status(b"HTTP/1.1  200 OK")),
    unusable("9112 4", "bare CR in the reason phrase", status(b"HTTP/1.1 200 O\rK")),
    relayed(
        "9112 4",
        "NUL in the reason phrase, which is ignored",
        status(b"HTTP/1.1 200 \0"),
        GOT_EMPTY,
    ),
    unusable("9112 2.3", "HTTP/1.2", status(b"HTTP/1.2 200 OK")),
    unusable("9112 2.3", "HTTP/2.0", status(b"HTTP/2.0 200 OK")),
    unusable("9112 2.3", "HTTP/0.9", status(b"HTTP/0.9 200 OK")),
    unusable("9112 2.3", "in lower case", status(b"http/1.1 200 OK")),
    unusable("9112 2.3", "another protocol", status(b"ICY 200 OK")),
    unusable("9112 4", "a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    unusable("9112 4", "nonsense", b"nonsense\r\n\r\n"),
    unusable("9112 4", "no head at all", b"<html></html>\r\n\r\n"),
    unusable("9112 4", "TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    unusable("9112 4", "SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    unusable("9112 2.2", "bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    unusable(
        "9112 2.2", "bare LF behind the status line", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"
    ),
    unusable("9112 2.2", "LF alone ends the head", OK + b"Content-Length: 0\r\n\n"),
    unusable("9112 8", "nothing", b"", reason="upstream_reset", closes=True),
    unusable("9112 8", "half a status line", b"HTTP/1.1 20", reason="upstream_reset", closes=True),
    unusable("9112 8", "half a head", OK + b"X: 1\r\n", reason="upstream_reset", closes=True),
    unusable(
        "9112 8",
        "half a head with the length of nothing",
        OK + b"Content-Length: 0\r\n",
        reason="upstream_reset",
        closes=True,
    ),
]

FIELDS: list[ResponseCase] = [
    relayed("9110 5.1", "names in any case", field(b"X-Y: 1\r\n"), got_field(b"x-y: 1\r\n")),
    relayed("9110 5.5", "an empty value", field(b"X:\r\n"), got_field(b"x: \r\n")),
    relayed(
        "9110 5.5", "obs-text, untouched", field(b"X: \xe4\xff\r\n"), got_field(b"x: \xe4\xff\r\n")
    ),
    relayed(
        "9110 5.3",
        "one line each",
        field(b"Set-Cookie: a\r\nX: 1\r\nSet-Cookie: b\r\n"),
        got_field(b"set-cookie: a\r\nx: 1\r\nset-cookie: b\r\n"),
    ),
    relayed(
        "9209 2",
        "Proxy-Status of a proxy behind us",
        field(b"Proxy-Status: p; error=x\r\n"),
        got_field(b"proxy-status: p; error=x\r\n"),
    ),
    relayed(
        "9110 7.6.3",
        "Via is added to",
        field(b"Via: 1.0 fred\r\n"),
        got_field(b"via: 1.0 fred\r\n"),
    ),
    relayed(
        "9110 7.6.1",
        "what Connection names",
        field(b"Connection: X-A, x-b\r\nX-A: 1\r\nX-B: 2\r\n"),
        GOT_EMPTY,
    ),
    relayed(
        "9110 7.6.1",
        "in two fields",
        field(b"Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n"),
        GOT_EMPTY,
    ),
    relayed(
        "9110 7.6.1",
        "Connection cannot name Content-Length away",
        OK + b"Connection: Content-Length\r\nContent-Length: 2\r\n\r\nok",
        GOT + b"content-length: 2\r\n\r\nok",
    ),
    relayed(
        "9110 7.6.1",
        "Connection names Transfer-Encoding away",
        OK
        + b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"2\r\nok\r\n0\r\n\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    ),
    relayed(
        "9110 7.6.1",
        "Keep-Alive and Proxy-Connection",
        field(b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\n"),
        GOT_EMPTY,
    ),
    relayed("9110 11.7", "Proxy-Authenticate", field(b"Proxy-Authenticate: Basic\r\n"), GOT_EMPTY),
    relayed(
        "9110 7.8",
        "an offer to upgrade",
        field(b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
        GOT_EMPTY,
    ),
    relayed("9112 9.6", "close", field(b"Connection: close\r\n"), GOT_EMPTY, "dropped"),
    relayed(
        "9112 9.6", "close among others", field(b"Connection: X, Close\r\n"), GOT_EMPTY, "dropped"
    ),
    unusable("9112 5.1", "space before the colon", field(b"X : 1\r\n")),
    unusable(
        "9112 5.1", "space before the colon of Content-Length", OK + b"Content-Length : 0\r\n\r\n"
    ),
    unusable("9112 5", "no colon", field(b"X\r\n")),
    unusable("9110 5.1", "an empty name", field(b": 1\r\n")),
    unusable("9110 5.1", "a name that is no token", field(b"X(: 1\r\n")),
    unusable("9112 5.2", "folded", field(b"X: 1\r\n 2\r\n")),
    unusable("9112 5.2", "folded with a tab", field(b"X: 1\r\n\t2\r\n")),
    unusable(
        "9112 2.2", "space before the first field", OK + b" X: 1\r\nContent-Length: 0\r\n\r\n"
    ),
    unusable("9112 2.2", "bare CR in a value", field(b"X: a\rb\r\n")),
    unusable("9112 2.2", "bare LF between fields", field(b"X: a\nY: b\r\n")),
    unusable("9110 5.5", "NUL in a value", field(b"X: a\x00b\r\n")),
    unusable("9110 5.5", "a control character in a value", field(b"X: a\x01b\r\n")),
    unusable("9110 15.5", "a head without end", OK + b"X: " + 600_000 * b"x"),
    unusable("9110 15.5", "many fields", field(200 * b"X: 1\r\n")),
]

FRAMING: list[ResponseCase] = [
    relayed(
        "9112 6.3",
        "Content-Length",
        OK + b"Content-Length: 2\r\n\r\nok",
        GOT + b"content-length: 2\r\n\r\nok",
    ),
    relayed(
        "9110 5.5",
        "whitespace around it",
        OK + b"Content-Length: \t2 \r\n\r\nok",
        GOT + b"content-length: 2 \r\n\r\nok",
    ),
    relayed(
        "9112 7.1",
        "chunks",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    ),
    relayed(
        "9112 7",
        "the coding's name in any case",
        OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        GOT_CHUNKED + b"0\r\n\r\n",
    ),
    relayed(
        "9110 5.5",
        "a space behind the coding",
        OK + b"Transfer-Encoding: chunked \r\n\r\n2\r\nok\r\n0\r\n\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    ),
    relayed(
        "9112 7.1.1",
        "extensions are not passed on",
        CHUNKED + b'2;a;b="c"\r\nok\r\n0;d\r\n\r\n',
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    ),
    relayed(
        "9112 7.1.2",
        "trailers",
        CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
    ),
    relayed(
        "9110 6.6.2",
        "Trailer announces them",
        OK + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
        GOT + b"trailer: X-Sum\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 1\r\n\r\n",
    ),
    relayed(
        "9110 6.5.1",
        "trailers that would change the head are dropped",
        CHUNKED
        + b"0\r\nSet-Cookie: a\r\nX-Request-ID: x\r\nVia: x\r\nTrailer: x\r\nX-Sum: 1\r\n\r\n",
        GOT_CHUNKED + b"0\r\nx-sum: 1\r\n\r\n",
    ),
    relayed(
        "9110 6.5.1",
        "a trailer that closes",
        CHUNKED + b"0\r\nConnection: close\r\n\r\n",
        GOT_CHUNKED + b"0\r\n\r\n",
        "dropped",
    ),
    relayed(
        "9112 6.3",
        "until the end of the connection",
        OK + b"\r\nok",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 6.3",
        "nothing until the end of the connection",
        OK + b"\r\n",
        GOT_CHUNKED + b"0\r\n\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 6.3",
        "HTTP/1.0 until the end of the connection",
        b"HTTP/1.0 200 OK\r\n\r\nok",
        GOT_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 9.3",
        "HTTP/1.0 with a length",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        GOT + b"content-length: 2\r\n\r\nok",
        "dropped",
    ),
    relayed(
        "9112 9.3",
        "HTTP/1.0 with keep-alive",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        GOT + b"content-length: 2\r\n\r\nok",
    ),
    relayed(
        "9112 6.1",
        "HTTP/1.0 with chunks is not used again",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GOT_CHUNKED + b"0\r\n\r\n",
        "dropped",
    ),
    relayed(
        "9112 C.2",
        "chunks to a client of HTTP/1.0",
        CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        GOT + b"\r\nok",
        request=GET_1_0,
    ),
    unusable(
        "9112 6.1",
        "Content-Length with Transfer-Encoding",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    unusable(
        "9112 6.1",
        "Transfer-Encoding with Content-Length",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    unusable(
        "9112 6.3",
        "two lengths, differing",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    ),
    unusable(
        "9112 6.3",
        "two lengths, the same",
        OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    unusable("9110 8.6", "a list", OK + b"Content-Length: 2, 2\r\n\r\nok"),
    unusable("9110 8.6", "a sign", OK + b"Content-Length: +2\r\n\r\nok"),
    unusable("9110 8.6", "negative", OK + b"Content-Length: -1\r\n\r\nok"),
    unusable("9110 8.6", "hexadecimal", OK + b"Content-Length: 0x2\r\n\r\nok"),
    unusable("9110 8.6", "empty", OK + b"Content-Length:\r\n\r\nok"),
    unusable("9110 8.6", "2^64", OK + b"Content-Length: 18446744073709551616\r\n\r\nok"),
    unusable("9112 6.1", "another coding", OK + b"Transfer-Encoding: gzip\r\n\r\nok"),
    unusable(
        "9112 6.1", "gzip, chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    ),
    unusable("9112 6.1", "chunked, gzip", OK + b"Transfer-Encoding: chunked, gzip\r\n\r\nok"),
    unusable("9112 6.1", "identity", OK + b"Transfer-Encoding: identity\r\n\r\nok"),
    unusable("9112 6.1", "xchunked", OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    unusable(
        "9112 6.1", "chunked, and a tab", OK + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n"
    ),
    unusable(
        "9112 6.1",
        "two fields",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    unusable("9112 6.1", "an empty coding", OK + b"Transfer-Encoding:\r\n\r\nok"),
    unusable("9112 7.1", "a chunk size that is no number", CHUNKED + b"x\r\n"),
    unusable(
        "9112 7.1", "a chunk size that wraps around", CHUNKED + b"10000000000000002\r\nok\r\n"
    ),
    unusable("9112 7.1", "bare LF behind a chunk size", CHUNKED + b"2\nok\r\n0\r\n\r\n"),
    unusable("9112 7.1", "a chunk longer than it says", CHUNKED + b"1\r\nok\r\n0\r\n\r\n"),
    unusable("9112 7.1.1", "bare LF in an extension", CHUNKED + b"2;a\nok\r\n0\r\n\r\n"),
    unusable(
        "9112 7.1.2", "Content-Length as a trailer", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"
    ),
]

TRUNCATED: list[ResponseCase] = [
    relayed(
        "9112 8",
        "less than Content-Length",
        OK + b"Content-Length: 3\r\n\r\nok",
        GOT + b"content-length: 3\r\n\r\nok",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "nothing of Content-Length",
        OK + b"Content-Length: 3\r\n\r\n",
        GOT + b"content-length: 3\r\n\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "chunks without the last",
        CHUNKED + b"2\r\nok\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "half a chunk",
        CHUNKED + b"4\r\nok",
        GOT_CHUNKED + b"2\r\nok\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "half a chunk size",
        CHUNKED + b"2\r\nok\r\n1",
        GOT_CHUNKED + b"2\r\nok\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "half the trailers",
        CHUNKED + b"2\r\nok\r\n0\r\nX: 1\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "the last chunk without its end",
        CHUNKED + b"2\r\nok\r\n0\r\n",
        GOT_CHUNKED + b"2\r\nok\r\n",
        "dropped",
        closes=True,
    ),
    relayed(
        "9112 8",
        "less than Content-Length, to a client of HTTP/1.0",
        OK + b"Content-Length: 3\r\n\r\nok",
        GOT + b"content-length: 3\r\n\r\nok",
        "dropped",
        closes=True,
        request=GET_1_0,
    ),
]

BODILESS: list[ResponseCase] = [
    relayed(
        "9112 6.3", "204", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"
    ),
    relayed(
        "9110 8.6",
        "204 with a length",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    relayed(
        "9112 6.1",
        "204 with a coding",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    relayed(
        "9112 6.3",
        "304",
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
    ),
    relayed(
        "9110 8.6",
        "304 with a length",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
    ),
    relayed(
        "9112 6.3",
        "HEAD with a length",
        OK + b"Content-Length: 9\r\n\r\n",
        GOT + b"content-length: 9\r\n\r\n",
        request=HEAD,
    ),
    relayed("9112 6.1", "HEAD with a coding", CHUNKED, GOT + b"\r\n", request=HEAD),
    relayed("9112 6.3", "HEAD with neither", OK + b"\r\n", GOT + b"\r\n", request=HEAD),
    relayed(
        "9112 9.6",
        "HEAD with neither, and close",
        OK + b"Connection: close\r\n\r\n",
        GOT + b"\r\n",
        "dropped",
        request=HEAD,
    ),
    relayed(
        "9112 9.3",
        "HEAD with neither from HTTP/1.0",
        b"HTTP/1.0 200 OK\r\n\r\n",
        GOT + b"\r\n",
        "dropped",
        request=HEAD,
    ),
    *(
        relayed("9112 6.3", f"a {what} behind {name}", head + more, got, "dropped", request=request)
        for name, head, got, request in (
            (
                "204",
                b"HTTP/1.1 204 No Content\r\n\r\n",
                b"HTTP/1.1 204 No Content\r\n\r\n",
                GET_1_0,
            ),
            (
                "304",
                b"HTTP/1.1 304 Not Modified\r\n\r\n",
                b"HTTP/1.1 304 Not Modified\r\n\r\n",
                GET_1_0,
            ),
            ("HEAD", OK + b"Content-Length: 4\r\n\r\n", GOT + b"content-length: 4\r\n\r\n", HEAD),
            (
                "Content-Length",
                OK + b"Content-Length: 2\r\n\r\nok",
                GOT + b"content-length: 2\r\n\r\nok",
                GET_1_0,
            ),
            ("Content-Length 0", EMPTY, GOT_EMPTY, GET_1_0),
            ("the last chunk", CHUNKED + b"0\r\n\r\n", GOT + b"\r\n", GET_1_0),
        )
        for what, more in (
            ("body", b"evil"),
            ("response", EVIL),
            ("1xx response", b"HTTP/1.1 103 X\r\n\r\n"),
            ("101", b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
            ("piece of a response", b"HTTP/1.1 2"),
        )
    ),
]

INFORMATIONAL: list[ResponseCase] = [
    relayed(
        "9110 15.2",
        "103 is passed on",
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + GOT_EMPTY,
    ),
    relayed(
        "9110 15.2",
        "102, and one that nobody registered",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 X\r\n\r\n" + EMPTY,
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 \r\n\r\n" + GOT_EMPTY,
    ),
    relayed(
        "9110 10.1.1",
        "100 that nobody expects any more is not passed on",
        b"HTTP/1.1 100 Continue\r\n\r\n" + EMPTY,
        GOT_EMPTY,
    ),
    relayed(
        "9110 15.2",
        "not to a client of HTTP/1.0",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + EMPTY,
        GOT_EMPTY,
        request=GET_1_0,
    ),
    relayed(
        "9110 15.2",
        "before the answer to HEAD",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOT_EMPTY,
        upstream="dropped",
        request=HEAD,
    ),
    relayed(
        "9110 8.6",
        "its length is not passed on",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOT_EMPTY,
    ),
    relayed(
        "9110 8.6",
        "a length that would hide the answer",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 99\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOT_EMPTY,
    ),
    relayed(
        "9112 6.1",
        "a coding that would hide the answer",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOT_EMPTY,
    ),
    relayed(
        "9110 7.6.1",
        "what Connection names in it",
        b"HTTP/1.1 103 Early Hints\r\nConnection: X\r\nX: 1\r\n\r\n" + EMPTY,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOT_EMPTY,
    ),
]

NOT_INFORMATIONAL: list[ResponseCase] = [
    unusable(
        "9110 15.2.2",
        "101 that nobody asked for",
        b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ),
    unusable("9110 15.2.2", "101 without Upgrade", b"HTTP/1.1 101 X\r\n\r\n" + EMPTY),
    unusable(
        "9112 6.3",
        "a body behind 100",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + EMPTY,
    ),
    unusable("9110 15.2", "100 without end", 15_000 * b"HTTP/1.1 100 Continue\r\n\r\n"),
    unusable("9112 8", "only 100", b"HTTP/1.1 100 X\r\n\r\n", reason="upstream_reset", closes=True),
]

CASES = STATUS_LINE + FIELDS + FRAMING + TRUNCATED + BODILESS + INFORMATIONAL + NOT_INFORMATIONAL
