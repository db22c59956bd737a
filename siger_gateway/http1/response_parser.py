"""Bytes to responses, without I/O. What ``request_parser`` says of the parsing holds here too.

What llhttp leaves to its user: the request that a response belongs to (HEAD has no body, an upgrade
may have been offered), what comes unasked, versions, sizes.
"""

from __future__ import annotations

from typing import Any, Final

import httptools

from siger_gateway.http.headers import MAX_FIELDS, STEERING, Headers, find_all
from siger_gateway.http.message import ProtocolError, Response
from siger_gateway.http1.plain import END_OF_HEAD, NotPlain, fields_of, length_of, status_of

MAX_RESPONSE_HEAD: Final = 256 * 1024
"""Bytes of a response's head, and of its trailers: more than any server sends; nginx and Envoy stop
at 64 KiB and less."""


class ResponseParser:
    """The client side of one connection; reads the response to one request at a time.

    ``expect(method)`` says what is awaited. Bytes beyond the response leave ``overrun`` set: what
    a server sends unasked must never be taken for the answer to the next request.
    """

    __slots__ = (
        "_fed",
        "_feed",
        "_headers",
        "_left",
        "_method",
        "_parser",
        "_upgrade",
        "informational",
        "overrun",
        "response",
    )

    def __init__(self) -> None:
        self._method = b""
        self._upgrade: bytes | None = None
        self._headers: Headers = []
        self._fed = 0
        self._left = 0  # bytes of a body that llhttp does not see
        self.response: Response | None = None
        self.informational: list[Response] = []
        self.overrun = False
        self._renew()

    def _renew(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data

    def expect(self, method: bytes, upgrade: bytes | None = None) -> None:
        """A request with this method has been sent; what comes now is its response.

        :param upgrade: the protocols offered. A response that chooses one of them has status 101
            and never becomes complete; its body is what the service has sent in that protocol.
        """
        self._method = method
        self._upgrade = upgrade
        self.response = None
        self._fed = 0
        self._left = 0

    def receive(self, data: bytes) -> None:
        """Feeds ``data``; raises ``ProtocolError`` when it is not a valid response."""
        if self._left:
            self._take_rest(data)
            return
        if not self._fed and self.response is None:
            try:
                self._take_plain(data)
            except NotPlain:
                pass
            else:
                return
        self._fed += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade as upgrade:
            response = self.response
            if response is not None and response.status == 101 and not self.overrun:
                response.append(data[upgrade.args[0] :])
                response.complete = False
            else:  # a 101 behind the response, else it was refused
                self.overrun = True
        except httptools.HttpParserError as failure:
            cause = failure.__context__
            if not isinstance(cause, _HeadOnly):
                if self.response is not None and self.response.complete:
                    self.overrun = True  # not our answer, whatever it is
                    return
                raise ProtocolError("upstream_protocol", str(cause or failure)) from failure
            self._renew()
            # A second message may hide behind the head: only when the head is all that was ever
            # read is it certain that none does.
            if len(data) != self._fed or data.find(b"\r\n\r\n") != len(data) - 4:
                self.overrun = True
        else:
            if self._fed > MAX_RESPONSE_HEAD:
                self._check_fed()

    def _take_plain(self, data: bytes) -> None:
        """Takes a response whose length is known, with as much of its body as there is.

        :raises NotPlain: if ``data`` is anything else; then nothing has changed.
        """
        end = data.find(END_OF_HEAD) + 4
        if end < 4 or self._method == b"HEAD" or self._upgrade is not None:
            raise NotPlain
        lines = data[: end - 3].split(b"\n")
        status = status_of(lines.pop(0))
        headers = fields_of(lines)
        response = Response(status, headers, True, lines)
        length = length_of(headers)
        rest = len(data) - end
        if not rest <= length or len(headers) > MAX_FIELDS:
            raise NotPlain
        if rest:
            response.append(data[end:])
        self._left = length - rest
        response.complete = length == rest
        self.response = response

    def _take_rest(self, data: bytes) -> None:
        """Takes what comes of a body whose length is known."""
        response, left = self.response, self._left
        assert response is not None
        if len(data) < left:
            response.append(data)
            self._left = left - len(data)
            return
        response.append(data[:left])
        self._left = 0
        response.complete = True
        if len(data) > left:
            self.receive(data[left:])

    def _check_fed(self) -> None:
        """More has been fed than a head may have: fine for a body, but not for head or trailers."""
        response = self.response
        if response is not None and (response.complete or response.has_body_waiting):
            self._fed = 0
        else:
            raise ProtocolError("upstream_protocol", "The response head or trailers are too large.")

    def on_message_begin(self) -> None:
        if self.response is not None:
            self.overrun = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []
        if self.overrun:
            return
        parser = self._parser
        status: int = parser.get_status_code()
        response = Response(status, headers, parser.should_keep_alive())
        fields = response.fields
        if not response.keep_alive or b"connection" in fields or b"proxy-connection" in fields:
            version = parser.get_http_version()  # else it can only be HTTP/1.1
            if version not in ("1.1", "1.0"):
                raise ProtocolError("upstream_protocol", "Neither HTTP/1.1 nor HTTP/1.0.")
            response.http10 = version == "1.0"
        if status < 200:
            if status == 101 and self._switches(response):
                self.response = response
                return
            if status < 100 or status == 101:
                raise ProtocolError("upstream_protocol", f"Unexpected status {status}.")
            self.informational.append(response)
            return
        if status > 599 or len(headers) > MAX_FIELDS:
            raise ProtocolError("upstream_protocol", "Bad status or too many fields.")
        self.response = response
        if self._method == b"HEAD":
            # No body whatever the fields say (RFC 9112 section 6.3, rule 1); llhttp cannot be
            # told so through httptools, so its state is thrown away.
            response.complete = True
            if not (response.http10 or b"connection" in fields or b"proxy-connection" in fields):
                response.keep_alive = True  # llhttp awaits a body up to the end of the connection
            raise _HeadOnly
        if b"transfer-encoding" in fields:
            codings = find_all(headers, b"transfer-encoding")
            # Of the whitespace that may stand behind it, llhttp takes spaces but no tab.
            if len(codings) > 1 or codings[0].rstrip(b" ").lower() != b"chunked":
                raise ProtocolError("upstream_protocol", "Unknown transfer coding.")
            if response.http10:  # RFC 9112 section 6.1: not to be relied on
                response.keep_alive = False
        elif b"content-length" not in fields and status != 204 and status != 304:
            response.until_close = True

    def _switches(self, response: Response) -> bool:
        """Whether it goes on in a protocol that it was offered (RFC 9110 section 7.8)."""
        if self._upgrade is None or not self._parser.should_upgrade():
            return False
        offered = [one.strip() for one in self._upgrade.lower().split(b",")]
        chosen = response.fields[b"upgrade"] = response.fields[b"upgrade"].strip()
        return chosen.lower() in offered

    def on_body(self, body: bytes) -> None:
        if self.response is not None and not self.overrun:
            self.response.append(body)

    def on_message_complete(self) -> None:
        response = self.response
        if response is not None and not self.overrun:
            response.complete = True
            if self._headers:
                response.trailers, self._headers = self._headers, []
                if any(name in STEERING for name, _ in response.trailers):
                    response.keep_alive = False  # llhttp obeys "Connection: close" even here


class _HeadOnly(Exception):
    """Stops llhttp after the head of a response to HEAD."""
