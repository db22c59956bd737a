"""Between decoded header blocks and messages: what RFC 9113 section 8 asks of them.

HTTP/2 carries fields that HTTP/1.1 could not even write down: line breaks, colons in names, a
``Transfer-Encoding``. Behind a gateway that translates, each of them is a way to smuggle a request
past it, so everything is looked at that HTTP/1.1's parser would have refused. What has been found
good once is remembered, as ``http1.plain`` does: else this would be half of what a request costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from siger_gateway.http.headers import Header, Headers, find_all, is_host
from siger_gateway.http.message import ProtocolError, Request, Response
from siger_gateway.http2.tunnel import WEBSOCKET, new_key

CONNECTION_FIELDS: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
"""Fields of HTTP/1.1's connections, which HTTP/2 does not have (RFC 9113 section 8.2.2)."""

NOT_SENT: Final = CONNECTION_FIELDS | {b"host"}
"""Request fields that HTTP/2 says in another way, or does not."""

REQUEST_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})

SLASH: Final = ord("/")

METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"QUERY"}
    | {b"COPY", b"LOCK", b"MKCOL", b"MOVE", b"PROPFIND", b"PROPPATCH", b"SEARCH", b"UNLOCK"}
    | {b"ACL", b"BIND", b"CHECKOUT", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"REBIND", b"REPORT"}
    | {b"UNBIND", b"LINK", b"UNLINK", b"M-SEARCH", b"NOTIFY", b"SUBSCRIBE", b"UNSUBSCRIBE"}
    | {b"PURGE", b"SOURCE"}
)
"""Those of HTTP/1.1's parser: any other would be refused behind us, and each that a client invents
would be another series of the metrics."""


def _only(allowed: Iterable[int], other: bytes) -> bytes:
    """Translates bytes to themselves if all of them are ``allowed``, and others to ``other``: to
    compare takes a third of the time that it takes to delete them and see what is left."""
    taken = frozenset(allowed)
    return bytes(code if code in taken else ord(other) for code in range(256))


_NAME: Final = _only(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz", b"x")
"""``tchar`` of RFC 9110 section 5.6.2, in lower case (RFC 9113 section 8.2.1)."""
_VALUE: Final = _only({ord("\t"), *range(32, 127), *range(128, 256)}, b"?")
"""No control characters."""
_TARGET: Final = _only(set(range(0x21, 0x7F)) - {ord("#")}, b"/")
"""What a path may have: HTTP/1.1's parser takes no more."""
_SPACES: Final = b" \t"
UNIQUE: Final = frozenset({b"x-request-id", b"traceparent", b"grpc-timeout"})
"""Names of fields that are not remembered: they hardly ever come again."""
LONGEST_REMEMBERED: Final = 512
"""Bytes of a field, and how many are remembered, as in ``http1.plain``."""
MAX_REMEMBERED: Final = 4096
MAX_HOSTS: Final = 256

_MOST_DIGITS: Final = 18
"""Of a ``Content-Length``."""


def request_of(headers: Headers, *, ends: bool) -> Request:
    """The request of a header block, with ``Host`` for ``:authority``.

    :param headers: are left as they are.
    :param ends: no body follows.
    :raises ProtocolError: if it is malformed.
    """
    count = 4  # nearly always, and if others stand among them they are not known
    if len(headers) < 5 or headers[4][0][:1] == b":" or headers[3][0][:1] != b":":
        count = 0
        while count < len(headers) and headers[count][0][:1] == b":":
            count += 1
    pseudo = dict(headers[:count])
    if len(pseudo) != count or not REQUEST_PSEUDO.issuperset(pseudo):
        raise _malformed("A pseudo-header that is not known, or is there twice.")
    rest = headers[count:]
    check_fields(rest)
    method = pseudo.get(b":method", b"")
    target = pseudo.get(b":path", b"")
    scheme = pseudo.get(b":scheme", b"")
    if method not in METHODS and b":protocol" not in pseudo:
        raise _malformed("The method is missing, or none that is served.")
    if scheme != b"http" and scheme != b"https":
        raise _malformed("The scheme has to be http or https.")
    if not target or target.translate(_TARGET) != target:
        raise _malformed("The path is missing or not valid.")
    if target[0] != SLASH and (target != b"*" or method != b"OPTIONS"):
        raise _malformed("The path has to begin with a slash.")
    authority = pseudo.get(b":authority")
    if b":protocol" in pseudo:
        if method != b"CONNECT" or ends:
            raise _malformed("A :protocol takes CONNECT, and an open stream.")
        return _upgrade(pseudo[b":protocol"], target, _with_host(authority, rest))
    head = [_hosts[authority], *rest] if authority is not None else _with_host(None, rest)
    request = Request(method, target, head, True)
    request.http2 = True
    fields = request.fields
    if len(fields) != len(head):  # some field is there twice, which may be Host
        request.headers = _with_host(authority, rest)
        if find_all(rest, b"te") not in ([], [b"trailers"]):
            raise _malformed("TE may say nothing but trailers.")
        if b"cookie" in fields:
            _join_cookies(request)
    if b"te" in fields and fields[b"te"] != b"trailers":
        raise _malformed("TE may say nothing but trailers.")
    if b"content-length" in fields:
        request.content_length = length = length_of(rest)
        if ends and length:
            raise _malformed("Content-Length says that there is a body.")
        if fields[b"content-length"] != b"%d" % length:  # there are servers that read octal
            request.replace(b"content-length", b"%d" % length)
    elif not ends:
        request.content_length = None
    if b"expect" in fields:
        for expectation in find_all(rest, b"expect"):
            if expectation.lower() != b"100-continue":
                raise ProtocolError("expectation_failed", "Only 100-continue can be expected.")
    request.complete = ends
    return request


def _upgrade(protocol: bytes, target: bytes, fields: Headers) -> Request:
    """An extended CONNECT as HTTP/1.1 would ask for it (RFC 8441 section 5)."""
    if protocol.lower() != WEBSOCKET:
        raise _malformed("The only :protocol is websocket.")
    names = [name for name, _ in fields]
    if b"content-length" in names or b"te" in names or b"expect" in names:
        raise _malformed("A field that is about a body.")
    kept = [field for field in fields if field[0] != b"sec-websocket-key"]
    request = Request(b"GET", target, [*kept, (b"sec-websocket-key", new_key())], True)
    request.http2 = True
    request.upgrade = WEBSOCKET
    if b"cookie" in request.fields:
        _join_cookies(request)
    request.complete = True  # all that HTTP knows of it
    return request


def check_fields(fields: Headers) -> None:
    """Looks at fields that are no pseudo-headers, of a head or of trailers.

    :raises ProtocolError: if one of them is not valid in HTTP/2, or in HTTP/1.1.
    """
    any(map(_look_up, fields))  # looks at all of them, as it finds None for each


class _Known(dict[Header, None]):
    """Fields that are valid: most of a message's are those of the one before."""

    def __missing__(self, field: Header) -> None:
        name, value = field
        unique = name in UNIQUE
        if not unique:
            if not name or name.translate(_NAME) != name:
                raise _malformed("A field name is not valid: lower case, no colon.")
            if name in CONNECTION_FIELDS:
                raise _malformed("A field about an HTTP/1.1 connection.")
        if value.translate(_VALUE) != value:
            raise _malformed("A control character in a field value.")
        if value and (value[0] in _SPACES or value[-1] in _SPACES):
            raise _malformed("A field value begins or ends with a space.")
        if not unique and len(name) + len(value) <= LONGEST_REMEMBERED:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[field] = None


_look_up: Final = _Known().__getitem__


def length_of(fields: Headers) -> int:
    """``Content-Length``; raises ``ProtocolError`` unless it is there once, and a number."""
    values = find_all(fields, b"content-length")
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > _MOST_DIGITS:
        raise _malformed("Content-Length has to be one number.")
    return int(values[0])


_STATUSES: Final = {b"%d" % status: status for status in range(100, 600) if status != 101}
"""Those that a response may have: HTTP/2 knows no other protocols (RFC 9113 section 8.6)."""


def response_of(headers: Headers) -> Response:
    """The response, interim or final, of a header block.

    :raises ProtocolError: if it is malformed.
    """
    if not headers or headers[0][0] != b":status":
        raise _malformed("The response has no status.")
    status = _STATUSES.get(headers[0][1])
    if status is None:
        raise _malformed("The status of the response is not valid.")
    rest = headers[1:]
    check_fields(rest)
    response = Response(status, rest, True)
    response.http2 = True
    return response


def request_head(
    method: bytes, target: bytes, scheme: bytes, authority: bytes, headers: Headers
) -> Headers:
    """What is said in HTTP/2 of a request; ``headers`` may have what only HTTP/1.1 says, for the
    encoder of requests leaves out what is ``NOT_SENT``."""
    head = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    if authority:  # HTTP/1.0 may have none (RFC 9113 section 8.3.1)
        head.append((b":authority", authority))
    head += headers
    return head


def upgrade_head(target: bytes, scheme: bytes, authority: bytes, headers: Headers) -> Headers:
    """A WebSocket's request, with the fields of HTTP/1.1, as an extended CONNECT."""
    kept = [field for field in headers if field[0] != b"sec-websocket-key"]
    head = request_head(b"CONNECT", target, scheme, authority, kept)
    head.insert(1, (b":protocol", WEBSOCKET))
    return head


def _with_host(authority: bytes | None, fields: Headers) -> Headers:
    """``fields`` with exactly one Host, in front, that says what ``:authority`` says."""
    hosts = [value for name, value in fields if name == b"host"]
    if authority is None:
        if len(hosts) != 1:
            raise _malformed("Neither :authority nor one Host.")
        authority = hosts[0]
    elif hosts and (len(hosts) > 1 or hosts[0] != authority):
        raise _malformed("Host says something else than :authority.")
    if hosts:
        fields = [field for field in fields if field[0] != b"host"]
    return [_hosts[authority], *fields]


class _Hosts(dict[bytes, Header]):
    """Authorities that are valid -> the field Host."""

    def __missing__(self, authority: bytes) -> Header:
        if not is_host(authority):
            raise _malformed("The authority is not valid.")
        if len(self) >= MAX_HOSTS:
            self.clear()
        host = self[authority] = (b"host", authority)
        return host


_hosts: Final = _Hosts()


def _join_cookies(request: Request) -> None:
    """HTTP/2 may send the pairs of a cookie one by one; others want one field (RFC 9113 8.2.3)."""
    pairs = find_all(request.headers, b"cookie")
    if len(pairs) > 1:
        cookie = b"; ".join(filter(None, pairs))
        request.headers = [field for field in request.headers if field[0] != b"cookie"]
        request.headers.append((b"cookie", cookie))
        request.fields[b"cookie"] = cookie


def _malformed(detail: str) -> ProtocolError:
    return ProtocolError("bad_request", detail)
