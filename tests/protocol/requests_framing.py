"""Where a request ends: Content-Length, Transfer-Encoding and chunks (RFC 9112 sections 6 and 7).

Whoever can make two servers disagree about that smuggles requests. So everything that another
server might read in another way is refused, and what is forwarded is framed anew.
"""

from __future__ import annotations

from tests.protocol.cases import RequestCase, forwarded, refused

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SEEN = b"POST / HTTP/1.1\r\nhost: a\r\n"
SEEN_CHUNKED = SEEN + b"transfer-encoding: chunked\r\n\r\n"
SEEN_ABC = SEEN_CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
SEEN_EMPTY = SEEN_CHUNKED + b"0\r\n\r\n"


def length(value: bytes, body: bytes = b"") -> bytes:
    return POST + b"Content-Length:" + value + b"\r\n\r\n" + body


def coding(value: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return POST + b"Transfer-Encoding:" + value + b"\r\n\r\n" + body


CONTENT_LENGTH: list[RequestCase] = [
    forwarded("9112 6.3", "a body", length(b" 3", b"abc"), SEEN + b"content-length: 3\r\n\r\nabc"),
    forwarded("9112 6.3", "an empty body", length(b" 0"), SEEN + b"content-length: 0\r\n\r\n"),
    forwarded("9112 6.3", "no length is no body", POST + b"\r\n", SEEN + b"\r\n"),
    forwarded(
        "9112 6.3",
        "the body looks like a request",
        length(b" 26", b"GET /x HTTP/1.1\r\nHost: b\r\n"),
        SEEN + b"content-length: 26\r\n\r\nGET /x HTTP/1.1\r\nHost: b\r\n",
    ),
    forwarded(
        "9110 9.3.1",
        "GET with a body [CL.0]",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
    ),
    forwarded(
        "9110 9.3.5",
        "DELETE with a body [CL.0]",
        b"DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /",
        b"DELETE / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /",
    ),
    forwarded(
        "9110 5.5",
        "whitespace around the length is no part of it",
        length(b"\t 3 \t", b"abc"),
        SEEN + b"content-length: 3\r\n\r\nabc",
    ),
    forwarded(
        "9110 8.6",
        "zeros before it are not forwarded, for somebody could read octal",
        length(b" 0011", b"0123456789a"),
        SEEN + b"content-length: 11\r\n\r\n0123456789a",
    ),
    forwarded("9110 8.6", "zeros", length(b" 000"), SEEN + b"content-length: 0\r\n\r\n"),
    refused(
        "9112 6.3",
        "twice, differing [CL.CL]",
        POST + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
    ),
    refused(
        "9112 6.3",
        "twice, the same",
        POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    ),
    refused(
        "9112 6.3",
        "twice, one with another spelling",
        POST + b"Content-Length: 3\r\ncontent-length: 03\r\n\r\nabc",
    ),
    refused("9110 8.6", "a list", length(b" 3, 3", b"abc")),
    refused("9110 8.6", "a list that differs", length(b" 3, 4", b"abcd")),
    refused("9110 8.6", "a list with an empty member", length(b" ,3", b"abc")),
    refused("9110 8.6", "a plus sign [CVE-2018-7159]", length(b" +3", b"abc")),
    refused("9110 8.6", "a minus sign", length(b" -3", b"abc")),
    refused("9110 8.6", "minus nothing", length(b" -0")),
    refused("9110 8.6", "hexadecimal", length(b" 0x3", b"abc")),
    refused("9110 8.6", "hexadecimal digits", length(b" a", b"0123456789")),
    refused("9110 8.6", "a fraction", length(b" 3.0", b"abc")),
    refused("9110 8.6", "an exponent", length(b" 1e1", b"0123456789")),
    refused("9110 8.6", "an underscore [CVE-2023-37276]", length(b" 1_0", b"0123456789")),
    refused("9110 8.6", "digits apart [CVE-2018-7159]", length(b" 1 0", b"0123456789")),
    refused("9110 8.6", "digits that are not ASCII", length(" ٣".encode(), b"abc")),
    refused("9110 8.6", "quotes", length(b' "3"', b"abc")),
    refused("9110 8.6", "nothing [CVE-2023-40225]", length(b"", b"abc")),
    refused("9110 8.6", "only whitespace [CVE-2023-40225]", length(b"  ", b"abc")),
    refused("9110 8.6", "a semicolon", length(b" 3;a", b"abc")),
    refused("9110 8.6", "a vertical tab before it", length(b" \x0b3", b"abc")),
    refused("9110 8.6", "a form feed behind it", length(b" 3\x0c", b"abc")),
    refused("9110 8.6", "NUL behind it", length(b" 3\x00", b"abc")),
    refused("9110 8.6", "2^64 + 3, which wraps around", length(b" 18446744073709551619", b"abc")),
    refused("9110 8.6", "2^64", length(b" 18446744073709551616")),
    refused(
        "9110 8.6", "more than the limit", length(b" 18446744073709551615"), 413, "body_too_large"
    ),
    refused("9110 8.6", "a thousand digits", length(b" " + 1000 * b"9")),
    refused(
        "9110 15.5.14", "one byte more than the limit", length(b" 65537"), 413, "body_too_large"
    ),
    refused("9112 5.2", "folded", length(b"\r\n 3", b"abc")),
    refused(
        "9112 5.1",
        "a space before its colon [CVE-2019-16869]",
        POST + b"Content-Length : 3\r\n\r\nabc",
    ),
    refused(
        "9112 5.1",
        "NUL in its name",
        POST + b"Content-Length\x00: 3\r\n\r\nabc",
    ),
    forwarded(
        "9110 5.1",
        "an underscore is another field [CVE-2021-40346]",
        POST + b"Content_Length: 5\r\nContent-Length: 3\r\n\r\nabc",
        SEEN + b"content_length: 5\r\ncontent-length: 3\r\n\r\nabc",
    ),
    refused(
        "9110 5.1",
        "a field name that is longer than 256 bytes, then a second length [CVE-2021-40346]",
        POST
        + b"Content-Length0"
        + 255 * b"a"
        + b":\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\n",
    ),
]

BOTH: list[RequestCase] = [
    refused(
        "9112 6.1",
        "Content-Length, then Transfer-Encoding [CL.TE]",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "Transfer-Encoding, then Content-Length [TE.CL]",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "Content-Length 0 [0.CL]",
        POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "in lower case",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "on HTTP/1.0",
        b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "Content-Length with an unknown coding",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "Content-Length with an empty coding",
        POST + b"Content-Length: 5\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "Content-Length with a coding that Connection names away",
        POST
        + b"Connection: Transfer-Encoding\r\n"
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    forwarded(
        "9110 7.6.1",
        "Connection names Transfer-Encoding away [TE.0]",
        POST
        + b"Connection: Transfer-Encoding\r\n"
        + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        SEEN_ABC,
    ),
    forwarded(
        "9110 7.6.1",
        "Connection names Content-Length away [CL.0]",
        POST + b"Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
        SEEN + b"content-length: 3\r\n\r\nabc",
    ),
    forwarded(
        "9110 5.1",
        "an underscore is another field [TE.CL]",
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        SEEN + b"transfer_encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
]

TRANSFER_ENCODING: list[RequestCase] = [
    forwarded("9112 7.1", "chunked", coding(b" chunked", b"3\r\nabc\r\n0\r\n\r\n"), SEEN_ABC),
    forwarded("9112 7", "the coding's name in any case", coding(b" ChunkeD"), SEEN_EMPTY),
    forwarded("9110 5.5", "no whitespace before the coding", coding(b"chunked"), SEEN_EMPTY),
    forwarded("9110 5.5", "a tab before the coding", coding(b"\tchunked"), SEEN_EMPTY),
    forwarded("9110 5.5", "a space behind the coding", coding(b" chunked "), SEEN_EMPTY),
    refused("9112 6.1", "a tab behind the coding", coding(b" chunked\t")),
    refused("9112 6.1", "a vertical tab before the coding", coding(b" \x0bchunked")),
    refused("9112 6.1", "a form feed behind the coding", coding(b" chunked\x0c")),
    refused("9112 6.1", "a no-break space before the coding", coding(b" \xa0chunked")),
    refused("9112 6.1", "NUL behind the coding", coding(b" chunked\x00")),
    refused("9112 6.1", "xchunked", coding(b" xchunked")),
    refused("9112 6.1", "chunkedx", coding(b" chunkedx")),
    refused("9112 6.1", "chunk", coding(b" chunk")),
    refused("9112 6.1", "a long s, which is S in upper case", coding(" chunke\u017f".encode())),
    refused("9112 6.1", "chunked twice in one field", coding(b" chunked, chunked")),
    refused(
        "9112 6.1",
        "chunked twice in two fields",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused("9112 6.1", "gzip, chunked", coding(b" gzip, chunked")),
    refused("9112 6.1", "chunked, gzip", coding(b" chunked, gzip")),
    refused("9112 6.1", "chunked, identity [CVE-2022-32215]", coding(b" chunked, identity")),
    refused("9112 6.1", "identity, chunked", coding(b" identity, chunked")),
    refused("9112 6.1", "identity", coding(b" identity")),
    refused("9112 6.1", "gzip", coding(b" gzip")),
    refused(
        "9112 6.1",
        "an unknown coding in a field before",
        POST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "an unknown coding in a field behind [CVE-2022-32213]",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    refused("9112 6.1", "a parameter", coding(b" chunked;q=1")),
    refused("9112 6.1", "quotes", coding(b' "chunked"')),
    refused("9112 6.1", "nothing", coding(b"")),
    refused("9112 6.1", "an empty member before", coding(b" ,chunked")),
    refused("9112 6.1", "an empty member behind", coding(b" chunked,")),
    refused("9112 6.1", "words apart", coding(b" chunked chunked")),
    refused("9112 5.2", "folded [CVE-2022-32215]", coding(b"\r\n chunked")),
    refused("9112 5.2", "folded with a tab", coding(b"\r\n\tchunked")),
    refused("9112 5.2", "folded behind", coding(b" chunked\r\n , identity")),
    refused(
        "9112 5.1",
        "a space before its colon",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 5.1",
        "a tab before its colon",
        POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 2.2",
        "behind a bare LF [CVE-2022-32214]",
        POST + b"X: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 2.2",
        "behind a bare CR [CVE-2023-30589]",
        POST + b"X: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 2.2",
        "a space before the first field [CVE-2024-27982]",
        b"POST / HTTP/1.1\r\n Content-Length: 3\r\nHost: a\r\n\r\nabc",
    ),
    refused(
        "9112 6.1",
        "on HTTP/1.0 [CVE-2024-1135]",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    refused(
        "9112 6.1",
        "on HTTP/1.0, kept alive",
        b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
]

CHUNKS: list[RequestCase] = [
    forwarded(
        "9112 7.1",
        "sizes in either case, with leading zeros",
        CHUNKED + b"A\r\n0123456789\r\n00a\r\n0123456789\r\n000\r\n\r\n",
        SEEN_CHUNKED + b"14\r\n" + 2 * b"0123456789" + b"\r\n0\r\n\r\n",
    ),
    forwarded(
        "9112 7.1.1",
        "extensions are not forwarded",
        CHUNKED + b'3;a;b=c;d="e"\r\nabc\r\n0;f\r\n\r\n',
        SEEN_ABC,
    ),
    forwarded(
        "9112 7.1",
        "data that look like the last chunk",
        CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
        SEEN_CHUNKED + b"5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    ),
    refused("9112 7.1", "a size that is no number", CHUNKED + b"x\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "no size", CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "only an extension", CHUNKED + b";a\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "0x [CVE-2023-30589]", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a plus sign", CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a minus sign", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "an underscore", CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a space before", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a space behind", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a tab behind", CHUNKED + b"3\t\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "a space before an extension", CHUNKED + b"3 ;a\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "NUL behind", CHUNKED + b"3\x00\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "2^64 + 3, which wraps around", CHUNKED + b"10000000000000003\r\nabc\r\n"),
    refused("9112 7.1", "2^64", CHUNKED + b"10000000000000000\r\n0\r\n\r\n"),
    refused("9112 7.1", "more data than the size says", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    refused(
        "9112 7.1",
        "two bytes of anything behind the data [CVE-2025-43859]",
        CHUNKED + b"3\r\nabcXX0\r\n\r\n",
    ),
    refused("9112 7.1", "no CRLF behind the data", CHUNKED + b"3\r\nabc0\r\n\r\n"),
    refused("9112 7.1", "bare LF behind the data", CHUNKED + b"3\r\nabc\n0\r\n\r\n"),
    refused("9112 7.1", "bare CR behind the data", CHUNKED + b"3\r\nabc\r0\r\n\r\n"),
    refused("9112 7.1", "bare LF behind the size", CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "bare CR behind the size", CHUNKED + b"3\rabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "CR CR LF behind the size", CHUNKED + b"3\r\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1", "bare LF behind the last chunk", CHUNKED + b"0\n\r\n"),
    refused("9112 7.1", "LF alone ends the trailers", CHUNKED + b"0\r\n\n"),
    refused("9112 7.1.1", "bare LF in an extension [TERM.EXT]", CHUNKED + b"3;a\nabc\r\n0\r\n\r\n"),
    refused(
        "9112 7.1.1", "bare CR in an extension [EXT.TERM]", CHUNKED + b"3;a\rb\r\nabc\r\n0\r\n\r\n"
    ),
    refused("9112 7.1.1", "NUL in an extension", CHUNKED + b"3;a\x00b\r\nabc\r\n0\r\n\r\n"),
    refused(
        "9112 7.1.1", "bare LF in a quoted extension", CHUNKED + b'3;a="\n"\r\nabc\r\n0\r\n\r\n'
    ),
    refused("9112 7.1.1", "an extension without name", CHUNKED + b"3;\r\nabc\r\n0\r\n\r\n"),
    refused("9112 7.1.1", "a quote that does not end", CHUNKED + b'3;a="b\r\nabc\r\n0\r\n\r\n'),
    refused(
        "9112 7.1.1",
        "extensions without end",
        CHUNKED + b"3;" + 600_000 * b"a",
        431,
        "headers_too_large",
        behind=b"",
    ),
    refused(
        "9110 15.5.14",
        "more data than the limit",
        CHUNKED + b"20000\r\n" + 65537 * b"x",
        413,
        "body_too_large",
    ),
]

TRAILERS: list[RequestCase] = [
    forwarded(
        "9112 7.1.2",
        "forwarded behind the body",
        CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        SEEN_CHUNKED + b"3\r\nabc\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n",
    ),
    forwarded(
        "9110 6.5.1",
        "those that frame, route or say who asks are dropped",
        CHUNKED
        + b"0\r\nHost: evil\r\nAuthorization: x\r\nCookie: x\r\nX-User-ID: root\r\n"
        + b"X-Forwarded-For: 6.6.6.6\r\nTE: gzip\r\nTrailer: x\r\nVia: x\r\nForwarded: for=x\r\n"
        + b"X-Sum: 1\r\n\r\n",
        SEEN_CHUNKED + b"0\r\nx-sum: 1\r\n\r\n",
    ),
    forwarded(
        "9110 6.5.1",
        "those that the gateway adds to the head are dropped",
        CHUNKED + b"0\r\nX-Request-ID: x\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 6.6.6.6\r\n\r\n",
        SEEN_EMPTY,
    ),
    refused("9112 7.1.2", "Content-Length", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n"),
    refused("9112 7.1.2", "Transfer-Encoding", CHUNKED + b"0\r\nTransfer-Encoding: gzip\r\n\r\n"),
    refused("9110 6.5.1", "Connection: close", CHUNKED + b"0\r\nConnection: close\r\n\r\n"),
    refused("9110 6.5.1", "Upgrade", CHUNKED + b"0\r\nUpgrade: x\r\n\r\n"),
    refused(
        "9110 15.5",
        "too many",
        CHUNKED + b"0\r\n" + 200 * b"X: 1\r\n" + b"\r\n",
        431,
        "headers_too_large",
    ),
    refused("9112 5.2", "a trailer, folded", CHUNKED + b"0\r\nX: 1\r\n 2\r\n\r\n"),
    refused("9112 5.1", "a trailer with a space before its colon", CHUNKED + b"0\r\nX : 1\r\n\r\n"),
    refused("9112 5.1", "a trailer without colon", CHUNKED + b"0\r\nX\r\n\r\n"),
    refused("9112 2.2", "bare LF in a trailer", CHUNKED + b"0\r\nX: 1\n\r\n"),
    refused("9112 2.2", "bare CR in a trailer", CHUNKED + b"0\r\nX: 1\r2\r\n\r\n"),
    refused("9110 5.5", "NUL in a trailer", CHUNKED + b"0\r\nX: \x00\r\n\r\n"),
    refused(
        "9110 15.5",
        "trailers beyond the limit",
        CHUNKED + b"0\r\nX: " + 20_000 * b"x" + b"\r\n\r\n",
        431,
        "headers_too_large",
    ),
]

CASES = CONTENT_LENGTH + BOTH + TRANSFER_ENCODING + CHUNKS + TRAILERS
