"""How a request is written: request line, field lines, Host, line ends (RFC 9112 2 to 5)."""

from __future__ import annotations

from tests.protocol.cases import RequestCase, answered, forwarded, refused

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
SEEN = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


def line(first: bytes) -> bytes:
    return first + b"\r\nHost: a\r\n\r\n"


def target(text: bytes) -> bytes:
    return b"GET " + text + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def to(text: bytes) -> bytes:
    """What the service sees of ``target(text)``."""
    return b"GET " + text + b" HTTP/1.1\r\nhost: a\r\n\r\n"


def host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost:" + value + b"\r\n\r\n"


def fields(raw: bytes) -> bytes:
    return GET + raw + b"\r\n"


def with_fields(raw: bytes) -> bytes:
    """What the service sees of ``fields(...)``."""
    return b"GET / HTTP/1.1\r\nhost: a\r\n" + raw + b"\r\n"


METHODS: list[RequestCase] = [
    *(
        forwarded("9110 9.3", method.decode(), line(method + b" / HTTP/1.1"), seen)
        for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH")
        for seen in (method + b" / HTTP/1.1\r\nhost: a\r\n\r\n",)
    ),
    *(
        forwarded("9110 16.1", f"{method.decode()}, registered elsewhere", line(head), seen)
        for method in (b"PROPFIND", b"REPORT", b"M-SEARCH", b"MKCALENDAR")
        for head, seen in ((method + b" / HTTP/1.1", method + b" / HTTP/1.1\r\nhost: a\r\n\r\n"),)
    ),
    refused("9110 9.1", "in lower case", line(b"get / HTTP/1.1")),
    refused("9110 9.1", "in mixed case", line(b"Get / HTTP/1.1")),
    refused("9110 9.1", "one that nobody registered", line(b"FROB / HTTP/1.1")),
    refused("9110 9.1", "no token", line(b"G(T / HTTP/1.1")),
    refused("9110 9.1", "NUL in it", line(b"GE\x00T / HTTP/1.1")),
    refused("9110 9.1", "not ASCII", line(b"G\xc3\x84T / HTTP/1.1")),
    refused("9112 3", "none", line(b" / HTTP/1.1")),
    refused("9110 9.3.6", "CONNECT", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    refused("9110 9.3.6", "CONNECT with a path", line(b"CONNECT / HTTP/1.1")),
]

LINE: list[RequestCase] = [
    forwarded("9112 2.2", "an empty line before", b"\r\n" + fields(b""), SEEN),
    forwarded("9112 2.2", "empty lines before", b"\r\n\r\n\r\n" + fields(b""), SEEN),
    forwarded("9112 3", "two spaces behind the target", line(b"GET /  HTTP/1.1"), SEEN),
    forwarded("9112 2.2", "ends of lines alone before are skipped", b"\n\r" + fields(b""), SEEN),
    refused("9112 3", "a tab behind the method", line(b"GET\t/ HTTP/1.1")),
    refused("9112 3", "a vertical tab behind the method", line(b"GET\x0b/ HTTP/1.1")),
    refused("9112 3", "a tab before the version", line(b"GET /\tHTTP/1.1")),
    refused("9112 3", "CR before the version", line(b"GET /\rHTTP/1.1")),
    refused("9112 3", "a space before the method", line(b" GET / HTTP/1.1")),
    refused("9112 3", "a space behind the version", line(b"GET / HTTP/1.1 ")),
    refused("9112 3", "a space in the target", line(b"GET /a b HTTP/1.1")),
    refused("9112 3", "two targets", line(b"GET /a HTTP/1.1 /b HTTP/1.1")),
    refused("9112 2.2", "bare LF ends it", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    refused("9112 2.2", "bare CR ends it", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    refused("9112 2.2", "CR CR LF ends it", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    refused("9112 2.2", "space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    refused("9112 2.2", "tab before the first field", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"),
    refused("9112 9.2", "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + 40 * b"\x00"),
    refused("9112 3", "PROXY protocol", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + fields(b"")),
]

VERSIONS: list[RequestCase] = [
    forwarded(
        "9112 C.2.2", "HTTP/1.0 is answered and closed", line(b"GET / HTTP/1.0"), SEEN, kept=False
    ),
    forwarded(
        "9112 C.2.2",
        "HTTP/1.0 with keep-alive stays",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        SEEN,
    ),
    forwarded(
        "9112 3.2",
        "HTTP/1.0 without Host; the service gets an empty one",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: \r\n\r\n",
        kept=False,
    ),
    refused("9112 2.3", "HTTP/0.9", b"GET /\r\n\r\n", 505, "version_not_supported"),
    refused("9112 2.3", "0.9 as a word", line(b"GET / HTTP/0.9"), 505, "version_not_supported"),
    refused("9112 2.3", "HTTP/2.0", line(b"GET / HTTP/2.0"), 505, "version_not_supported"),
    refused("9112 2.3", "HTTP/1.2", line(b"GET / HTTP/1.2")),
    refused("9112 2.3", "HTTP/3.0", line(b"GET / HTTP/3.0")),
    refused("9112 2.3", "HTTP/1.10", line(b"GET / HTTP/1.10")),
    refused("9112 2.3", "HTTP/1.01", line(b"GET / HTTP/1.01")),
    refused("9112 2.3", "HTTP/01.1", line(b"GET / HTTP/01.1")),
    refused("9112 2.3", "HTTP/1", line(b"GET / HTTP/1")),
    refused("9112 2.3", "HTTP/1,1", line(b"GET / HTTP/1,1")),
    refused("9112 2.3", "in lower case", line(b"GET / http/1.1")),
    refused("9112 2.3", "HTTPS/1.1", line(b"GET / HTTPS/1.1")),
    refused("9112 2.3", "another protocol", line(b"GET / ICE/1.0")),
    refused("9112 2.3", "digits that are not ASCII", line("GET / HTTP/1.\u0661".encode())),
]

TARGETS: list[RequestCase] = [
    forwarded("9112 3.2.1", "origin-form with a query", target(b"/a?b=c&d"), to(b"/a?b=c&d")),
    forwarded("9112 3.2.1", "an empty query", target(b"/?"), to(b"/?")),
    forwarded("9112 3.2.1", "two slashes are no authority", target(b"//evil/x"), to(b"//evil/x")),
    forwarded("9112 3.2.1", "a URL in the path", target(b"/http://b/"), to(b"/http://b/")),
    forwarded(
        "3986 3.3",
        "characters of a segment",
        target(b"/a;b=c,d:@!$&'()*+~"),
        to(b"/a;b=c,d:@!$&'()*+~"),
    ),
    answered("9112 3.2.4", "OPTIONS *", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 204),
    refused("9112 3.2.4", "asterisk-form with GET", target(b"*")),
    refused("9112 3.2.4", "OPTIONS *x", b"OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n"),
    refused("9112 3.2.2", "absolute-form", target(b"http://a/")),
    refused("9112 3.2.2", "absolute-form of another host", target(b"http://evil/")),
    refused("9112 3.2.2", "absolute-form of https", target(b"https://a/")),
    refused("9112 3.2.2", "another scheme", target(b"file:///etc/passwd")),
    refused("9112 3.2.3", "authority-form", target(b"a:80")),
    refused("9112 3.2", "a relative path", target(b"a")),
    refused("9112 3.2", "only a query", target(b"?a")),
    refused("9112 3.2", "a backslash before the host", target(b"\\evil")),
    refused("9112 3.2", "user information", target(b"@evil/")),
    refused("9112 3.2", "a fragment", target(b"/#a")),
    refused("9112 3.2", "a fragment behind a query", target(b"/?a#b")),
    refused("9112 3.2", "not ASCII", target("/ä".encode())),
    refused("9112 3.2", "NUL", target(b"/\x00")),
    refused("9112 3.2", "a control character", target(b"/\x01")),
    refused("9112 3.2", "DEL", target(b"/\x7f")),
    refused("9110 15.5.15", "too long", target(b"/" + 20_000 * b"a"), 414, "uri_too_long"),
]

HOSTS: list[RequestCase] = [
    *(
        forwarded("9110 7.2", f"{name.decode()}", host(b" " + name), seen)
        for name in (
            b"a:80",
            b"a:",
            b"A.b-c",
            b"1.2.3.4:5",
            b"[::1]",
            b"[::1]:80",
            b"a_b",
            b"xn--a",
        )
        for seen in (b"GET / HTTP/1.1\r\nhost: " + name + b"\r\n\r\n",)
    ),
    forwarded("9110 5.5", "whitespace around it is no part of it", host(b"\t a \t "), SEEN),
    refused("9112 3.2", "none", b"GET / HTTP/1.1\r\n\r\n"),
    refused("9112 3.2", "two, differing", fields(b"Host: b\r\n")),
    refused("9112 3.2", "two, the same", fields(b"Host: a\r\n")),
    refused("9112 3.2", "two, in another case", fields(b"hOST: a\r\n")),
    refused("9112 3.2", "two on HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    refused("9112 3.2", "a second one with a space before its colon", fields(b"Host : b\r\n")),
    refused("9112 5.2", "a second one, folded", fields(b"X: 1\r\n Host: b\r\n")),
    refused("9110 7.2", "empty", host(b"")),
    refused("9110 7.2", "a list", host(b" a, b")),
    refused("9110 7.2", "a list without space", host(b" a,b")),
    refused("9110 7.2", "a space in it", host(b" a b")),
    refused("9110 7.2", "a tab in it", host(b" a\tb")),
    refused("9110 7.2", "a path", host(b" a/b")),
    refused("9110 7.2", "a backslash", host(b" a\\b")),
    refused("9110 7.2", "a query", host(b" a?b")),
    refused("9110 7.2", "a fragment", host(b" a#b")),
    refused("9110 4.2.4", "user information", host(b" u@a")),
    refused("9110 4.2.4", "user information with a password", host(b" u:p@a")),
    refused("9110 7.2", "a scheme", host(b" http://a")),
    refused("9110 7.2", "a port that is no number", host(b" a:x")),
    refused("9110 7.2", "a port with a sign", host(b" a:-1")),
    refused("9110 7.2", "two ports", host(b" a:80:90")),
    refused("9110 7.2", "only a port", host(b" :80")),
    refused("9110 7.2", "a port and a path", host(b" a:80/b")),
    refused("9110 7.2", "IPv6 without brackets", host(b" ::1")),
    refused("9110 7.2", "IPv6 that is not closed", host(b" [::1")),
    refused("9110 7.2", "bytes behind IPv6", host(b" [::1]x")),
    refused("9110 7.2", "empty brackets", host(b" []")),
    refused("9110 7.2", "not ASCII", host(" ä".encode())),
    refused("9110 7.2", "quotes", host(b' "a"')),
    refused("9110 7.2", "markup", host(b" <a>")),
]

FIELD_LINES: list[RequestCase] = [
    forwarded("9110 5.1", "names in any case", fields(b"X-Y: 1\r\n"), with_fields(b"x-y: 1\r\n")),
    forwarded("9110 5.5", "an empty value", fields(b"X:\r\n"), with_fields(b"x: \r\n")),
    forwarded("9110 5.5", "only whitespace", fields(b"X: \t \r\n"), with_fields(b"x: \r\n")),
    forwarded("9110 5.5", "space behind it", fields(b"X: a  \r\n"), with_fields(b"x: a\r\n")),
    forwarded("9110 5.5", "a tab behind it", fields(b"X: a \t\r\n"), with_fields(b"x: a\r\n")),
    forwarded("9110 5.5", "a tab in it", fields(b"X: a\tb\r\n"), with_fields(b"x: a\tb\r\n")),
    forwarded("9110 5.5", "no space before it", fields(b"X:a\r\n"), with_fields(b"x: a\r\n")),
    forwarded("9110 5.5", "colons", fields(b"X: a: b:\r\n"), with_fields(b"x: a: b:\r\n")),
    forwarded(
        "9110 5.5",
        "obs-text, untouched",
        fields(b"X: \xe4\xff\x80 b\xc3\xa4\r\n"),
        with_fields(b"x: \xe4\xff\x80 b\xc3\xa4\r\n"),
    ),
    forwarded(
        "9110 5.3",
        "the order of lines of one name",
        fields(b"X: 1\r\nY: 2\r\nx: 3\r\n"),
        with_fields(b"x: 1\r\ny: 2\r\nx: 3\r\n"),
    ),
    forwarded(
        "9110 5.6.2",
        "every character of a token",
        fields(b"!#$%&'*+-.^_`|~09azAZ: 1\r\n"),
        with_fields(b"!#$%&'*+-.^_`|~09azaz: 1\r\n"),
    ),
    refused("9112 5.1", "space before the colon", fields(b"X : 1\r\n")),
    refused("9112 5.1", "tab before the colon", fields(b"X\t: 1\r\n")),
    refused("9112 5", "no colon", fields(b"X\r\n")),
    refused("9110 5.1", "an empty name [CVE-2023-25725]", fields(b": 1\r\n")),
    refused("9110 5.1", "nothing but a colon", fields(b":\r\n")),
    refused("9110 5.1", "a name that is no token", fields(b"X(: 1\r\n")),
    refused("9110 5.1", "a space in a name", fields(b"X Y: 1\r\n")),
    refused("9110 5.1", "a quote in a name", fields(b'"X": 1\r\n')),
    refused("9110 5.1", "NUL in a name", fields(b"X\x00: 1\r\n")),
    refused("9110 5.1", "a name that is not ASCII", fields(b"X\xe4: 1\r\n")),
    refused("9110 5.1", "a control character before a name", fields(b"\x0bX: 1\r\n")),
    refused("9112 5.2", "a field, folded", fields(b"X: 1\r\n 2\r\n")),
    refused("9112 5.2", "a field, folded with a tab", fields(b"X: 1\r\n\t2\r\n")),
    refused("9112 5.2", "folded into nothing", fields(b"X: 1\r\n \r\n")),
    refused("9112 2.2", "bare LF behind a field", b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
    refused("9112 2.2", "bare LF between fields", fields(b"X: 1\nY: 2\r\n")),
    refused("9112 2.2", "bare CR in a value", fields(b"X: a\rb\r\n")),
    refused("9112 2.2", "bare CR between fields", fields(b"X: 1\rY: 2\r\n")),
    refused("9112 2.2", "CR CR LF behind a field", fields(b"X: 1\r\r\n")),
    refused("9112 2.2", "LF CR between fields", fields(b"X: 1\n\rY: 2\r\n")),
    refused("9112 2.2", "LF alone ends the head", GET + b"\n"),
    refused("9112 2.2", "CR alone ends the head", GET + b"\rX"),
    refused("9112 2.2", "LF LF ends the head", GET[:-2] + b"\n\n"),
    refused("9110 5.5", "NUL in a value", fields(b"X: a\x00b\r\n")),
    refused("9110 5.5", "a control character in a value", fields(b"X: a\x01b\r\n")),
    refused("9110 5.5", "a vertical tab in a value", fields(b"X: a\x0bb\r\n")),
    refused("9110 5.5", "DEL in a value", fields(b"X: \x7f\r\n")),
    refused(
        "9110 15.5",
        "a large field",
        fields(b"X: " + 20_000 * b"x" + b"\r\n"),
        431,
        "headers_too_large",
    ),
    refused("9110 15.5", "many fields", fields(200 * b"X: 1\r\n"), 431, "headers_too_large"),
    refused(
        "9110 15.5",
        "large and many",
        fields(b"".join(b"X%d: %b\r\n" % (n, 1000 * b"x") for n in range(40))),
        431,
        "headers_too_large",
    ),
]

CASES = METHODS + LINE + VERSIONS + TARGETS + HOSTS + FIELD_LINES
