"""Routes that the gateway answers out of the configuration: redirects and direct responses.

A ``Reply`` says what the response is; ``LocalAnswer`` is the consumer that sends it, ``Refusal``
the one for errors. A small
request body is read first and dropped, so that the connection stays usable; a large or unsized one
is not awaited: the connection then ends, and says so (RFC 9112 section 9.6).
"""

from __future__ import annotations

from typing import Final, Protocol

from siger_gateway.config.actions import BODILESS
from siger_gateway.config.schema import DirectResponseConfig, RedirectConfig, RouteConfig
from siger_gateway.errors import GatewayError
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.proxy.arrival import Arrival
from siger_gateway.proxy.edits import Edits
from siger_gateway.routing.rewrite import Rewrite, TemplateRewrite, path_rewrite
from siger_gateway.routing.table import host_name

MAX_DROPPED: Final = 64 * 1024
"""Bytes of a request body that are read for nothing: one read or two, cheaper than to connect
again."""

_URL_CHARACTERS: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/?@!$&'()*+,;=%"
)
"""RFC 3986 section 3: what a path and a query may hold. A backslash, for one, is not among them:
browsers take it for a slash."""

_HOST_CHARACTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._[]:"
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class Reply(Protocol):
    """A response of the gateway's own."""

    def head(
        self, request: Request, path: bytes, scheme: bytes, host: bytes
    ) -> tuple[int, Headers, bytes] | None:
        """Status, fields and body; None: the request has to say a host, and does not.

        :param path: the normal form of the request's path.
        :param scheme: ``http`` or ``https``: how the client has come.
        :param host: what the client takes the gateway for, maybe with port; may be empty.
        """


class DirectResponse:
    """The same for everybody."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, config: DirectResponseConfig, edits: Edits | None) -> None:
        self._status = config.status
        self._body = config.body.encode()
        headers: Headers = []
        if config.status not in BODILESS:
            headers.append((b"content-type", config.content_type.encode()))
        if config.status not in (204, 304):  # RFC 9110 section 8.6
            headers.append((b"content-length", b"%d" % len(self._body)))
        self._headers = headers if edits is None else edits.apply(headers)

    def head(
        self, request: Request, path: bytes, scheme: bytes, host: bytes
    ) -> tuple[int, Headers, bytes]:
        return self._status, [*self._headers], self._body


class Redirect:
    """``Location`` (RFC 9110 section 10.2.2) from what was asked for and what the route changes.

    It is relative to the client's origin unless the route names another scheme, host or port. A
    path in it always begins with exactly one slash: ``//x`` would be another host's.
    """

    __slots__ = ("_config", "_edits", "_rewrite")

    def __init__(
        self, config: RedirectConfig, rewrite: Rewrite | None, edits: Edits | None
    ) -> None:
        self._config = config
        self._rewrite = rewrite
        self._edits = edits

    def head(
        self, request: Request, path: bytes, scheme: bytes, host: bytes
    ) -> tuple[int, Headers, bytes] | None:
        origin = self._origin(scheme, host)
        if origin is None:
            return None
        location = origin + self._target(request.target, path)
        headers = [(b"location", location), (b"content-length", b"0")]
        if self._edits is not None:
            headers = self._edits.apply(headers)
        return self._config.status, headers, b""

    def _target(self, target: bytes, path: bytes) -> bytes:
        if self._rewrite is not None:
            target = self._rewrite.apply(target, path)
        if self._config.strip_query:
            target = target.partition(b"?")[0]
        target = b"/" + target.lstrip(b"/")
        for odd in set(target.translate(None, _URL_CHARACTERS)):
            target = target.replace(bytes((odd,)), b"%%%02X" % odd)
        return target

    def _origin(self, scheme: bytes, host: bytes) -> bytes | None:
        """``https://host:port``, or b"" for the client's own."""
        config = self._config
        if config.scheme == "keep" and not config.host and not config.port:
            return b""
        if config.scheme != "keep":
            scheme = config.scheme.encode()
        name = config.host.encode() or host_name(host)
        if not name or name.translate(None, _HOST_CHARACTERS):
            return None
        if config.port in (0, _DEFAULT_PORTS.get(scheme)):
            return b"%b://%b" % (scheme, name)
        return b"%b://%b:%d" % (scheme, name, config.port)


def compile_reply(route: RouteConfig, edits: Edits | None) -> Reply:
    """What a route without a service answers.

    :param edits: of the response.
    """
    redirect = route.redirect
    if redirect == RedirectConfig():
        return DirectResponse(route.direct_response, edits)
    if redirect.path:  # of a path_prefix too it replaces the whole path
        return Redirect(redirect, TemplateRewrite(route.match.path, redirect.path), edits)
    return Redirect(redirect, path_rewrite(route.match, redirect.prefix), edits)


class LocalAnswer:
    """A consumer that sends one reply.

    :param reply: from ``Reply.head``.
    """

    __slots__ = ("_arrival", "_reply")

    def __init__(self, arrival: Arrival, reply: tuple[int, Headers, bytes]) -> None:
        self._arrival = arrival
        self._reply = reply

    def start(self) -> None:
        request = self._arrival.call.request
        length = request.content_length
        if request.complete or length is None or length > MAX_DROPPED:
            self._answer()

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None:
        self._answer()

    def on_request_error(self, error: ProtocolError) -> None:
        self._arrival.refuse(GatewayError(error.reason, error.detail))

    def on_downstream_closed(self) -> None:
        self._arrival.close(499, "downstream_closed")

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...

    def _answer(self) -> None:
        call = self._arrival.call
        status, headers, body = self._reply
        headers = call.dress(headers)
        headers.append((b"x-request-id", self._arrival.request_id))
        if not call.request.complete:
            call.stream.close_after_response()
        self._arrival.close(status, "")
        call.stream.send_head(status, headers, body, sized=True)
        call.stream.send_end([])


class Refusal:
    """A consumer that answers with an error at once and takes nothing."""

    __slots__ = ("_arrival", "_error")

    def __init__(self, arrival: Arrival, error: GatewayError) -> None:
        self._arrival = arrival
        self._error = error

    def start(self) -> None:
        self._arrival.refuse(self._error)

    # The stream is ended in ``start``: none of these is ever called.

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_request_error(self, error: ProtocolError) -> None: ...

    def on_downstream_closed(self) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
