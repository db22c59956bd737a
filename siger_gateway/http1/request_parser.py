"""Bytes to requests, without I/O.

llhttp (through httptools) does the parsing and refuses what is malformed: bare CR and LF, spaces
before colons, Content-Length with Transfer-Encoding, bad chunk sizes. What it leaves to its user
is here: Host, target forms, transfer codings other than ``chunked``, versions, sizes.

The callbacks only collect. ``feed`` is called with what a socket gave, and afterwards the
connection looks at what has been collected: so no exception of the layers above passes through
llhttp, and the pieces of a body that came in one read are delivered in one piece.

A request is handed out in ``started`` when its head is complete; its body follows in
``Request.take_body()`` with ``Request.complete`` telling whether the end has been seen.
"""

from __future__ import annotations

from typing import Any, Final

import httptools

from siger_gateway.http.headers import (
    MAX_FIELDS,
    STEERING,
    Headers,
    connection_options,
    find_all,
    is_host,
    is_token,
)
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http1.plain import END_OF_HEAD, NotPlain, fields_of, length_of, request_line

SLASH: Final = ord("/")
ZERO: Final = ord("0")
HASH: Final = ord("#")

HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What HTTP/2 begins with (RFC 9113 section 3.4); four bytes tell it from HTTP/1.1."""
SPEAKS_HTTP2: Final = ProtocolError("version_not_supported", "This is HTTP/2.")
"""The error of a parser whose first bytes are the preface; ``early`` has all of them."""

NEVER_TUNNELLED: Final = frozenset({b"h2c", b"tls", b"http"})
"""Protocols of an Upgrade in which there would be requests again."""


class RequestParser:
    """The server side of one connection: ``receive`` bytes, then look at ``started``."""

    __slots__ = (
        "_count_limit",
        "_current",
        "_fed",
        "_feed",
        "_header_limit",
        "_headers",
        "_left",
        "_parser",
        "_plain",
        "_seen_host",
        "_target",
        "body_limit",
        "early",
        "error",
        "held",
        "in_head",
        "started",
    )

    def __init__(self, header_limit: int, body_limit: int, count_limit: int = MAX_FIELDS) -> None:
        """Header and body in bytes, ``count_limit`` in fields; the trailers of a request are
        bounded like its head, and a body above its limit ends in ``body_too_large``."""
        self._header_limit = header_limit
        self.body_limit = body_limit
        self._count_limit = count_limit
        self._target = b""
        self._headers: Headers = []
        self._current: Request | None = None
        self._seen_host: bytes | None = None
        self._fed = 0
        # Bytes fed since the head in progress began or a byte of body came, or a little more.
        self._left = 0  # bytes of a body that llhttp does not see
        self.in_head = False
        self.started: list[Request] = []
        # What came behind a request for an upgrade: nobody knows yet in which protocol it is.
        self.held: bytes | None = None
        self.early = b""
        """The first bytes of the connection, as long as they may be HTTP/2's."""
        self.error: ProtocolError | None = None
        self._renew()

    def _renew(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data
        self._plain = True

    def receive(self, data: bytes) -> None:
        """Feeds ``data``; afterwards ``started`` and ``error`` say what it held.

        Requests that were complete before an error stand in ``started`` and are to be answered
        first; the one in which the error occurred does not.
        """
        before = self._current
        if self._left:
            self._take_rest(data)
            return
        if self._plain and before is None and not self.in_head:
            try:
                self._take_plain(data)
            except NotPlain:
                pass
            else:
                return
        if self._seen_host is None and before is None:  # there has been no request yet
            data = self._look_for_preface(data)
            if not data:
                return
        self._fed = self._fed + len(data) if self.in_head or before is not None else len(data)
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._on_upgrades(data[upgrade.args[0] :])
        except httptools.HttpParserError as failure:
            self._fail_for(failure)
        current = self._current
        if current is not None and current.has_body_waiting:
            self._fed = 0
        elif self._fed > self._header_limit and self.error is None:
            self._check_fed(before)

    def _look_for_preface(self, data: bytes) -> bytes:
        """What is HTTP/1.1; nothing if it is HTTP/2, or too short to tell."""
        early = self.early + data
        if self.error is None and HTTP2_PREFACE.startswith(early[:4]):
            if len(early) < 4:
                self.in_head = True
                self.early = early
                return b""
            self.in_head = False
            self.early = early
            self.error = SPEAKS_HTTP2
            return b""
        self.early = b""
        return early

    def _take_plain(self, data: bytes) -> None:
        """Takes one request, with as much of its body as there is.

        :raises NotPlain: if ``data`` is anything else; then nothing has changed.
        """
        # To look for the end costs as much as to take all lines apart.
        end = len(data) if data.endswith(END_OF_HEAD) else data.find(END_OF_HEAD) + 4
        if not 4 < end <= self._header_limit:
            raise NotPlain
        lines = data[: end - 3].split(b"\n")
        method, target = request_line(lines.pop(0))
        headers = fields_of(lines)
        request = Request(method, target, headers, True, lines)
        fields = request.fields
        if len(fields) != len(headers) or fields.get(b"host", b"") != self._seen_host:
            self._check_plain_host(headers)
        if len(headers) > self._count_limit:
            raise NotPlain
        rest = len(data) - end
        length = length_of(headers) if b"content-length" in fields else 0
        if rest > length or length > self.body_limit:
            raise NotPlain
        if length:
            request.content_length = length
            if rest:
                request.append(data[end:])
        if length > rest:
            self._left = length - rest
            self._current = request
        else:
            request.complete = True
        self.started.append(request)

    def _take_rest(self, data: bytes) -> None:
        """Takes what comes of a body whose length is known."""
        request, left = self._current, self._left
        assert request is not None
        request.append(data[:left])
        self._left = max(left - len(data), 0)
        if not self._left:
            request.complete = True
            self._current = None
            if len(data) > left:
                self.receive(data[left:])

    def _check_plain_host(self, headers: Headers) -> None:
        hosts = find_all(headers, b"host")
        if len(hosts) != 1 or not is_host(hosts[0]):
            raise NotPlain
        self._seen_host = hosts[0]

    def _check_fed(self, before: Request | None) -> None:
        """More has been fed than a head may have: refuses it if it was one, or all framing.

        :param before: the request whose body was under way before the last read.
        """
        if self._current is not None:
            if self._current is before:  # chunk extensions, or trailers
                limit = self._header_limit
                self._fail(ProtocolError("headers_too_large", f"The limit is {limit} bytes."))
            else:  # its head came in this read, and was not too large
                self._fed = 0
        elif self.in_head:
            if before is None and not self.started:
                self._fail(self._head_too_large())
            else:  # it began somewhere in this read: certainly its own is what was collected
                self._fed = self._head_size()

    def _head_size(self) -> int:
        """Of what has been collected of a head, without the request line's other words."""
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _fail_for(self, failure: httptools.HttpParserError) -> None:
        cause = failure.__context__
        if isinstance(cause, ProtocolError):
            self._fail(cause)
        else:
            self._fail(ProtocolError("bad_request", f"Not valid HTTP: {failure}."))

    def _fail(self, error: ProtocolError) -> None:
        self.error = error
        self._feed = _ignore
        self._plain = False
        if self._current is not None:
            if self._current in self.started:
                self.started.remove(self._current)
            self._current = None

    def _head_too_large(self) -> ProtocolError:
        # It may have come piece by piece: whichever made up most of it is to blame.
        mostly_target = len(self._target) > self._header_limit // 2
        reason = "uri_too_long" if mostly_target else "headers_too_large"
        return ProtocolError(reason, f"The limit is {self._header_limit} bytes.")

    def decline_upgrade(self) -> None:
        """The last request has been answered in HTTP/1.1: so what is held are further requests."""
        held, self.held = self.held, None
        self._feed = self._parser.feed_data
        self._plain = True
        if held:
            self.receive(held)

    def _hold(self, data: bytes) -> None:
        """Takes the place of llhttp while it is open in which protocol the client goes on."""
        self.held = (self.held or b"") + data

    def _on_upgrades(self, rest: bytes) -> None:
        """Waits for the answer to an upgrade that may come about, and goes on as if others had not
        been asked for (RFC 9110 section 7.8 allows that); one read may hold many such heads."""
        while True:
            request = self.started[-1]
            if request.method == b"CONNECT":  # "CONNECT /path": no proxy is asked like that
                self.started.remove(request)
                self._fail(ProtocolError("bad_request", "CONNECT is not served."))
                return
            request.upgrade = _upgrade_of(request)
            if request.upgrade is not None:
                self.held = rest
                self._feed = self._hold
                self._plain = False
                return
            if request.content_length != 0:
                self._expect_body(request)
            if not rest:
                return
            try:
                self._feed(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
            except httptools.HttpParserError as failure:
                self._fail_for(failure)
                return

    def _expect_body(self, request: Request) -> None:
        """llhttp has skipped the body: a parser that has just read a head with the same framing
        reads it, and the collected request takes it up."""
        self._renew()
        started, self.started = self.started, []
        framing = (
            b"Transfer-Encoding: chunked"
            if request.content_length is None
            else b"Content-Length: %d" % request.content_length
        )
        self._feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        self.started = started
        request.complete = False
        self._current = request

    # Callbacks of httptools. An exception raised here reaches ``receive`` as a context.

    def on_message_begin(self) -> None:
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # llhttp leaves the whitespace behind a value, which is no part of it (RFC 9110 5.5).
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        headers, target = self._headers, self._target
        limit = self._header_limit
        if self._fed > limit and self._head_size() > limit:  # only then worth the exact sum
            raise self._head_too_large()
        self._headers, self._target, self.in_head = [], b"", False
        parser = self._parser
        keep_alive = parser.should_keep_alive()
        request = Request(parser.get_method(), target, headers, keep_alive)
        self._plain = keep_alive  # else nothing may follow, which llhttp knows
        fields = request.fields
        if not keep_alive or b"connection" in fields or b"proxy-connection" in fields:
            # Else it can only be HTTP/1.1. llhttp takes both fields for the same.
            version = parser.get_http_version()
            if version not in ("1.1", "1.0"):
                raise ProtocolError("version_not_supported", "Speak HTTP/1.1 or HTTP/1.0.")
            request.http10 = version == "1.0"
        if target[0] != SLASH or HASH in target:
            self._check_odd_target(request)
        if len(fields) != len(headers) or fields.get(b"host", b"") != self._seen_host:
            self._check_host(request)
        if len(headers) > self._count_limit:
            raise self._too_many_fields()
        if b"content-length" in fields:
            value = fields[b"content-length"]
            request.content_length = length = int(value)
            if value[0] == ZERO and len(value) > 1:
                # They are valid, but there are servers that read octal.
                request.replace(b"content-length", b"%d" % length)
            if length > self.body_limit:
                raise ProtocolError("body_too_large", f"The limit is {self.body_limit} bytes.")
        elif b"transfer-encoding" in fields:
            # Any other coding would have to be undone here or understood behind us; HTTP/1.0
            # does not know the field at all (RFC 9112 section 6.1).
            codings = find_all(headers, b"transfer-encoding")
            if len(codings) > 1 or codings[0].lower() != b"chunked" or request.http10:
                raise ProtocolError("bad_request", "The only transfer coding taken is chunked.")
            request.content_length = None
        if b"expect" in fields:
            for expectation in find_all(headers, b"expect"):
                if expectation.lower() != b"100-continue":
                    raise ProtocolError("expectation_failed", "Only 100-continue can be expected.")
        self._current = request
        self.started.append(request)

    def on_body(self, body: bytes) -> None:
        if self._current is not None:
            self._current.append(body)

    def on_message_complete(self) -> None:
        request = self._current
        if request is not None:
            if self._headers:
                self._check_trailers()
                request.trailers, self._headers = self._headers, []
            request.complete = True
            self._current = None

    def _check_trailers(self) -> None:
        """What one read holds of trailers may be more than a head may have."""
        if self._head_size() > self._header_limit:
            limit = self._header_limit
            raise ProtocolError("headers_too_large", f"The limit is {limit} bytes.")
        if len(self._headers) > self._count_limit:
            raise self._too_many_fields()
        if any(name in STEERING for name, _ in self._headers):
            # llhttp obeys "Connection: close" even here, when it is too late to say so.
            raise ProtocolError("bad_request", "A trailer field cannot steer the connection.")

    def _too_many_fields(self) -> ProtocolError:
        return ProtocolError("headers_too_large", f"More than {self._count_limit} header fields.")

    def _check_odd_target(self, request: Request) -> None:
        """Only origin-form, and asterisk-form for OPTIONS (RFC 9112 section 3.2).

        Absolute-form would bring a second host beside the Host field, authority-form belongs to
        CONNECT, which a reverse proxy does not serve, and a fragment never leaves a client.
        """
        if request.target != b"*" or request.method != b"OPTIONS":
            raise ProtocolError("bad_request", "The target has to be a path, without fragment.")

    def _check_host(self, request: Request) -> None:
        """Exactly one valid Host on HTTP/1.1 (RFC 9112 section 3.2), at most one on 1.0."""
        hosts = find_all(request.headers, b"host")
        if len(hosts) > 1:
            raise ProtocolError("bad_request", "More than one Host field.")
        if hosts:
            if not is_host(hosts[0]):
                raise ProtocolError("bad_request", "The Host field is not valid.")
            self._seen_host = hosts[0]  # a connection nearly always names the same one
        elif not request.http10:
            raise ProtocolError("bad_request", "The Host field is missing.")


def _upgrade_of(request: Request) -> bytes | None:
    """The protocols that the client offers, if the gateway can be a tunnel for them.

    Never ``h2c`` and ``TLS``: what comes after them are requests again, which would pass by all
    routes and limits. And none with a body before it, which RFC 9110 section 7.8 would allow.
    """
    if request.http10 or request.content_length != 0:
        return None
    connection = find_all(request.headers, b"connection")
    if not any(b"upgrade" in connection_options(value) for value in connection):
        return None  # it is Proxy-Connection that says so, which llhttp takes for the same
    protocols = b", ".join(find_all(request.headers, b"upgrade"))
    names = [one.strip().partition(b"/")[0].lower() for one in protocols.split(b",")]
    if not all(is_token(name) and name not in NEVER_TUNNELLED for name in names):
        return None
    return protocols


def _ignore(data: bytes) -> None:
    """Takes the place of llhttp after a fault: where the next message begins is not known."""
