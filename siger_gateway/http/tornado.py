"""Tornado's ``Application`` on the gateway's own wire, for the gateway's own endpoints.

``TornadoConsumer`` stands between the two: to the wire it is the ``Consumer`` of a request, to
Tornado the ``HTTPConnection`` that a ``RequestHandler`` writes to. Handlers run unchanged, at a
third of what they cost on Tornado's ``HTTP1Connection``.

That is still several times what a request costs on the wire. ``Endpoints`` is an ``Application``
with a ``Direct`` way beside its handlers, for the few requests that come by the thousand.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from tornado import httputil
from tornado.web import Application

from siger_gateway.errors import PROBLEM_CONTENT_TYPE, GatewayError, proxy_status
from siger_gateway.http.headers import Header, Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import DownstreamStream

BODILESS = frozenset({204, 304})
_CONNECTION_FIELDS = frozenset({"connection", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has shown to be there; ``user`` "": nobody has."""

    user: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What ``HTTPServerRequest`` asks of a connection: who is there, on which scheme.

    ``caller`` is None where the route does not want to know.
    """

    remote_ip: str
    protocol: str
    caller: Caller | None


class Direct(Protocol):
    """What answers some requests without a ``RequestHandler``. It does so with the consumer's
    ``reply`` or ``refuse``, once, and raises nothing."""

    def answer(self, consumer: TornadoConsumer) -> bool:
        """Answers a request without a body at once; False: a handler has to."""

    def takes(self, request: Request) -> bool:
        """Whether ``take`` is to be called with the body of this request."""

    def take(self, consumer: TornadoConsumer, body: bytes) -> None:
        """Answers a request with a body, at once or later."""


class Endpoints(Application):
    """The gateway's own endpoints.

    :param direct: asked before the handlers; None: there is nothing to ask.
    """

    def __init__(self, handlers: list[Any], direct: Direct | None, **settings: Any) -> None:
        super().__init__(handlers, **settings)
        self.direct = direct


class TornadoConsumer(httputil.HTTPConnection):
    """One request served by a ``tornado.web.Application``.

    :param request_id: for the handler, and for the response.
    :param dress: adds what other layers have to tell the client.
    :param reject: answers (instead of ``finished``) when the request turns out not to be valid.
    :param finished: called once with the status and the reason that the handler left in
        ``reason``; the status is 0 when the client went away first.
    """

    def __init__(
        self,
        application: httputil.HTTPServerConnectionDelegate,
        request: Request,
        stream: DownstreamStream,
        request_id: bytes,
        dress: Callable[[Headers], Headers],
        reject: Callable[[ProtocolError], None],
        finished: Callable[[int, str], None],
        remote_ip: str,
        caller: Caller | None,
    ) -> None:
        self.context = RequestContext(remote_ip, stream.scheme.decode(), caller)
        self._application = application
        self._direct = application.direct if isinstance(application, Endpoints) else None
        self._body: list[bytes] | None = None  # for ``_direct``
        self.request = request
        self.request_id = request_id
        self._stream = stream
        self._dress = dress
        self._reject = reject
        self._finished = finished
        self._status = 0
        self.reason = ""
        """Why the handler answers with an error: a key of ``errors.REASONS``, or ""."""
        self._done = False
        self._close_callback: Callable[[], None] | None = None
        self._writable: Future[None] | None = None  # until a handler writes
        self._delegate: httputil.HTTPMessageDelegate | None = None

    # The wire's side.

    def start(self) -> None:
        request, direct = self.request, self._direct
        if direct is not None:
            if request.has_body:
                if direct.takes(request):
                    self._body = []
                    return
            elif direct.answer(self):
                return
        self._writable = _writable()
        headers = httputil.HTTPHeaders()
        for name, value in request.headers:
            if name != b"x-request-id":
                headers.add(name.decode("latin-1"), value.decode("latin-1"))
        headers.add("X-Request-ID", self.request_id.decode("latin-1"))
        line = httputil.RequestStartLine(
            request.method.decode(),
            request.target.decode("latin-1"),
            "HTTP/1.0" if request.http10 else "HTTP/1.1",
        )
        try:
            self._delegate = self._application.start_request(self, self)
            self._call(self._delegate.headers_received(line, headers))
            if not request.has_body:
                self._delegate.finish()
        except httputil.HTTPInputError:  # a query string that Tornado will not have
            self.on_request_error(ProtocolError("bad_request", "The query string is not valid."))

    def on_data(self, data: bytes) -> None:
        if self._body is not None:
            self._body.append(data)
        elif not self._done and self._delegate is not None:
            self._call(self._delegate.data_received(data))

    def on_end(self, trailers: Headers) -> None:
        if self._body is not None:
            body, self._body = b"".join(self._body), None
            if self._direct is not None and not self._done:
                self._direct.take(self, body)
        elif not self._done and self._delegate is not None:
            self._delegate.finish()

    def on_request_error(self, error: ProtocolError) -> None:
        """The handler has not run yet, for it wants the whole body: it never will."""
        self._done = True
        self._reject(error)

    def on_downstream_closed(self) -> None:
        if self._done:
            return
        self._done = True
        self.resume_response()
        callback, self._close_callback = self._close_callback, None
        if callback is not None:
            callback()
        if self._delegate is not None:
            self._delegate.on_connection_close()
        self._finished(0, "downstream_closed")

    def pause_response(self) -> None:
        if self._writable is not None and self._writable.done():
            self._writable = get_running_loop().create_future()

    def resume_response(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    @staticmethod
    def _call(result: Awaitable[None] | None) -> None:
        """A handler that streams its request body would need backpressure here: none does."""
        assert result is None, "handlers take whole bodies; see limits.body"

    # The direct way.

    def reply(self, status: int, fields: Headers, body: bytes) -> None:
        """Answers, with all that every response of a handler has; nothing if the client has gone.

        :param fields: taken over, without the length of ``body`` and the date.
        """
        if self._done:
            return
        self._done = True
        if status not in BODILESS:
            fields.append((b"content-length", b"%d" % len(body)))
        fields.append(_date())
        fields = self._dress(fields)
        fields.append((b"x-request-id", self.request_id))
        stream = self._stream
        stream.send_head(status, fields, body, sized=True)
        # Accounted first: ending the stream may start the client's next request.
        self._finished(status, self.reason)
        stream.send_end([])

    def refuse(self, error: GatewayError) -> None:
        """Answers with ``error``; nothing if the client has gone."""
        self.reason = error.reason
        fields = [
            (b"content-type", PROBLEM_CONTENT_TYPE.encode()),
            (b"cache-control", b"no-store"),
            (b"proxy-status", proxy_status(error.reason).encode()),
            *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
        ]
        instance = self.request.path.decode("latin-1")
        request_id = self.request_id.decode("latin-1")
        body = error.problem(instance=instance, request_id=request_id)
        self.reply(error.status, fields, body)

    # Tornado's side.

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        self._close_callback = callback

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> Future[None]:
        assert isinstance(start_line, httputil.ResponseStartLine)
        if not self._done:
            self._status = start_line.code
            fields: Headers = [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in headers.get_all()
                if name.lower() not in _CONNECTION_FIELDS
            ]
            sized = "Content-Length" in headers or start_line.code in BODILESS
            fields = self._dress(fields)
            fields.append((b"x-request-id", self.request_id))
            self._stream.send_head(start_line.code, fields, chunk or b"", sized=sized)
        assert self._writable is not None
        return self._writable

    def write(self, chunk: bytes) -> Future[None]:
        if chunk and not self._done and self.request.method != b"HEAD":
            self._stream.send_data(chunk)
        assert self._writable is not None
        return self._writable

    def finish(self) -> None:
        if not self._done:
            self._done = True
            self._close_callback = None
            # Accounted first: ending the stream may start the client's next request.
            self._finished(self._status, self.reason)
            self._stream.send_end([])


def _writable() -> Future[None]:
    future: Future[None] = get_running_loop().create_future()
    future.set_result(None)
    return future


_dates: dict[int, Header] = {}


def _date() -> Header:
    """The field ``Date`` (RFC 9110 section 6.6.1), written once per second."""
    now = int(time())
    field = _dates.get(now)
    if field is None:
        _dates.clear()
        field = _dates[now] = (b"date", httputil.format_timestamp(now).encode())
    return field
