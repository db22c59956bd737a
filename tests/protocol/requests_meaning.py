"""What fields and paths mean to a gateway, and what comes behind a request (RFC 9110 section 7)."""

from __future__ import annotations

from tests.protocol.cases import RequestCase, answered, forwarded, refused

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
SEEN = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def removed(name: str, raw: bytes, *, section: str = "9110 7.6.1") -> RequestCase:
    """The service sees nothing of ``raw``."""
    return forwarded(section, name, GET + raw + b"\r\n", SEEN + b"\r\n")


CONNECTION: list[RequestCase] = [
    removed("a field that Connection names", b"Connection: X-A\r\nX-A: 1\r\n"),
    removed("in any case", b"Connection: x-A\r\nX-a: 1\r\n"),
    removed("several", b"Connection: X-A,x-b , X-C\r\nX-A: 1\r\nX-B: 2\r\nX-C: 3\r\n"),
    removed("in two fields", b"Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n"),
    removed("empty members", b"Connection: ,,X-A, \r\nX-A: 1\r\n"),
    removed("every line of the name", b"X-A: 1\r\nConnection: X-A\r\nX-A: 2\r\n"),
    removed(
        "Connection itself, keep-alive", b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"
    ),
    removed("Proxy-Connection", b"Proxy-Connection: keep-alive\r\n", section="9112 C.2.2"),
    removed("Proxy-Authorization", b"Proxy-Authorization: Basic eA==\r\n", section="9110 11.7.2"),
    removed("TE that asks for codings", b"TE: gzip, deflate;q=0.5\r\nConnection: TE\r\n"),
    removed("HTTP2-Settings", b"HTTP2-Settings: AAMAAABk\r\n", section="9113 3.1"),
    forwarded(
        "9110 10.1.4",
        "TE: trailers is said anew, for trailers are passed on",
        GET + b"TE: trailers, gzip\r\nConnection: TE\r\n\r\n",
        SEEN + b"te: trailers\r\nconnection: te\r\n\r\n",
    ),
    forwarded(
        "9110 6.6.2",
        "Trailer is passed on with the trailers that it announces",
        POST
        + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntrailer: X-Sum\r\ntransfer-encoding: chunked\r\n\r\n"
        b"1\r\nx\r\n0\r\nx-sum: 1\r\n\r\n",
    ),
    forwarded(
        "9110 7.6.1",
        "Connection cannot name Host away",
        GET + b"Connection: Host\r\n\r\n",
        SEEN + b"\r\n",
    ),
    removed(
        "Connection cannot name away what the gateway says",
        b"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Via, X-Request-ID\r\n",
    ),
    removed(
        "Connection may name the client's own credentials away",
        b"Connection: Authorization, Cookie\r\nAuthorization: x\r\nCookie: y\r\n",
    ),
    removed("a member that is no token", b'Connection: "X-A", X-B\r\nX-B: 1\r\n'),
    forwarded("9112 9.6", "close", GET + b"Connection: close\r\n\r\n", SEEN + b"\r\n", kept=False),
    forwarded(
        "9112 9.6",
        "close among others",
        GET + b"Connection: keep-alive, X, Close\r\n\r\n",
        SEEN + b"\r\n",
        kept=False,
    ),
    forwarded(
        "9112 9.6",
        "close in a second field",
        GET + b"Connection: keep-alive\r\nConnection: close \r\n\r\n",
        SEEN + b"\r\n",
        kept=False,
    ),
]

CLAIMS: list[RequestCase] = [
    removed("X-Forwarded-*", b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n"),
    removed("X-Forwarded-Host and -Port", b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n"),
    removed("Forwarded", b"Forwarded: for=6.6.6.6;proto=https\r\n", section="7239 8.1"),
    removed("X-Real-IP", b"X-Real-IP: 6.6.6.6\r\n"),
    removed("the user", b"X-User-ID: root\r\nX-User-Role: admin\r\n"),
    removed("with underscores", b"X_User_ID: root\r\nX_Forwarded_For: 6.6.6.6\r\n"),
    forwarded(
        "9110 7.6.3",
        "Via is added to",
        GET + b"Via: 1.0 fred, 1.1 p.example.net\r\n\r\n",
        SEEN + b"via: 1.0 fred, 1.1 p.example.net\r\n\r\n",
    ),
]

CLAIMS.append(
    answered(
        "9110 7.6.3",
        "Via that names us eleven times is a loop",
        GET + b"Via: 1.1 siger" + 10 * b", 1.1 siger" + b"\r\n\r\n",
        508,
        "loop_detected",
    )
)

EXPECT: list[RequestCase] = [
    forwarded(
        "9110 10.1.1",
        "100-continue is the gateway's to answer",
        POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
    ),
    forwarded(
        "9110 10.1.1",
        "in any case",
        POST + b"expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
    ),
    forwarded(
        "9110 5.5",
        "whitespace around it",
        POST + b"Expect:  100-continue \r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
    ),
    forwarded(
        "9110 10.1.1",
        "without a body it is ignored [0.CL]",
        GET + b"Expect: 100-continue\r\n\r\n",
        SEEN + b"\r\n",
    ),
    forwarded(
        "9110 10.1.1",
        "on HTTP/1.0 it is ignored",
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        kept=False,
    ),
    *(
        refused(
            "9110 10.1.1",
            name,
            POST + b"Expect:" + value + b"\r\nContent-Length: 1\r\n\r\nx",
            417,
            "expectation_failed",
        )
        for name, value in (
            ("another expectation", b" x"),
            ("y 100-continue [Expect desync]", b" y 100-continue"),
            ("100-continue x", b" 100-continue x"),
            ("a list", b" 100-continue, x"),
            ("empty", b""),
            ("a second one", b" 100-continue\r\nExpect: x"),
            ("a parameter", b" 100-continue;q=1"),
        )
    ),
]

MAX_FORWARDS: list[RequestCase] = [
    forwarded(
        "9110 7.6.2",
        "OPTIONS with some left",
        b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 5\r\n\r\n",
        b"OPTIONS /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 4\r\n\r\n",
    ),
    forwarded(
        "9110 7.6.2",
        "TRACE with the last one",
        b"TRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 1\r\n\r\n",
        b"TRACE /a HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n",
    ),
    answered(
        "9110 7.6.2",
        "OPTIONS with none left",
        b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
        204,
    ),
    answered(
        "9110 7.6.2",
        "TRACE with none left",
        b"TRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
        405,
        "method_not_allowed",
    ),
    forwarded(
        "9110 7.6.2",
        "it means nothing to other methods",
        GET + b"Max-Forwards: 0\r\n\r\n",
        SEEN + b"max-forwards: 0\r\n\r\n",
    ),
    forwarded(
        "9110 7.6.2",
        "no number is left alone",
        b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n",
        b"OPTIONS /a HTTP/1.1\r\nhost: a\r\nmax-forwards: x\r\n\r\n",
    ),
]


def path(text: bytes, name: str = "") -> RequestCase:
    """Forwarded as it stands."""
    return forwarded(
        "3986 6.2.2",
        name or text.decode(),
        b"GET " + text + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET " + text + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    )


def bad_path(text: bytes) -> RequestCase:
    return answered(
        "3986 6.2.2.3",
        text.decode(),
        b"GET " + text + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "bad_path",
    )


PATHS: list[RequestCase] = [
    *map(
        path,
        (b"/a%2Fb", b"/a%2fb", b"/%61dmin", b"/ADMIN", b"//a///b/", b"/a;b=c/d", b"/...", b"/.a"),
    ),
    *map(
        path,
        (
            b"/a..b",
            b"/a%3Bb",
            b"/a%23b%3Fc",
            b"/%C3%A4",
            b"/a?b=../c",
            b"/a?%00",
            b"/a%5Cb",
        ),
    ),
    *map(
        bad_path,
        (b"/..", b"/../a", b"/a/..", b"/a/../b", b"/.", b"/a/./b", b"/%2e%2e/a", b"/%2E./a"),
    ),
    *map(
        bad_path,
        (b"/.%2e/a", b"/a/%2e", b"/..;a/b", b"/..;/b", b"/.;a/b", b"/%00", b"/a%0d%0ab", b"/%7f"),
    ),
    *map(
        bad_path, (b"/..%2fa", b"/a%2F..%2Fb", b"/a/..%5Cb", b"/%2e%2e%2fa", b"/a%5c.", b"/..%2f;x")
    ),
    *map(bad_path, (b"/a\\b", b"/..\\a", b"/a\\..\\b")),
    *map(path, (b"/a%2f...%2fb", b"/a%2f.b", b"/a?b=\\..\\c", b"/a;..")),
    *map(bad_path, (b"/%zz", b"/%", b"/a%2", b"/%u002e")),
]

PIPELINED: list[RequestCase] = [
    forwarded("9112 9.3.2", "two requests", 2 * (GET + b"\r\n"), *(2 * (SEEN + b"\r\n",))),
    forwarded(
        "9112 9.3.2",
        "a body, then a request",
        POST + b"Content-Length: 3\r\n\r\nabc" + GET + b"\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        SEEN + b"\r\n",
    ),
    forwarded(
        "9112 9.3.2",
        "chunks, then a request",
        POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + GET + b"\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        SEEN + b"\r\n",
    ),
    forwarded(
        "9112 2.2",
        "an empty line between",
        GET + b"\r\n\r\n" + GET + b"\r\n",
        *(2 * (SEEN + b"\r\n",)),
    ),
    refused(
        "9112 9.3.2",
        "an error behind a request",
        GET + b"\r\nBAD\r\n\r\n",
        before=(SEEN + b"\r\n",),
    ),
    refused(
        "9112 6.3",
        "two lengths behind a request",
        GET + b"\r\n" + POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        before=(SEEN + b"\r\n",),
    ),
    refused(
        "9112 6.3",
        "more than Content-Length is the next request, and bad",
        POST + b"Content-Length: 1\r\n\r\nabc\r\n\r\n",
        before=(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\na",),
    ),
    RequestCase(
        "9112 9.6",
        "nothing is read behind a request that closes",
        GET + b"Connection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        (200,),
        "",
        False,
        (SEEN + b"\r\n",),
    ),
    RequestCase(
        "9112 9.3",
        "nothing is read behind a request of HTTP/1.0",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n",
        (200,),
        "",
        False,
        (SEEN + b"\r\n",),
    ),
]

CASES = CONNECTION + CLAIMS + EXPECT + MAX_FORWARDS + PATHS + PIPELINED
