"""From a parsed request to the one who answers it. The phase *match route*.

Everything here is a plain function of the request and of one immutable table; a reload swaps the
table by assignment, and an exchange keeps the route that it started with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final

from siger_gateway.errors import REASONS, GatewayError
from siger_gateway.http1.headers import Headers
from siger_gateway.http1.message import ProtocolError, Request
from siger_gateway.http1.reply import send_problem
from siger_gateway.http1.stream import Consumer, DownstreamStream
from siger_gateway.http1.tornado import TornadoConsumer
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.answer import LocalAnswer
from siger_gateway.proxy.exchange import Exchange
from siger_gateway.proxy.forwarded import (
    TrustedProxies,
    forwarding_headers,
    has_looped,
    request_id,
)
from siger_gateway.proxy.last_hop import MAY_END_HERE, ends_here
from siger_gateway.proxy.route import AnswerRoute, LocalRoute, ProxyRoute, Route
from siger_gateway.routing.path import is_plain, normalize
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import RouteStats

NO_ROUTE: Final = "-"
"""The route label of requests that matched none."""

SCHEMES: Final = (b"http", b"https")


class Dispatcher:
    """The ``Handler`` of the listener.

    :param table: the routes; assign a new one to reload.
    :param trusted: whose word about the client is taken; None: nobody's.
    """

    def __init__(
        self, table: RouteTable[Route], accounts: Accounts, trusted: TrustedProxies | None
    ) -> None:
        self.table = table
        self.trusted = trusted
        self._accounts = accounts

    def dispatch(self, request: Request, stream: DownstreamStream) -> Consumer:
        started = perf_counter()
        self._accounts.metrics.in_flight += 1
        identity = request_id(request.fields)
        if b"via" in request.fields and has_looped(request):
            return self._refusal(request, stream, identity, started, "loop_detected")
        path = request.path
        if not is_plain(path):
            normal = normalize(path)
            if normal is None:
                return self._refusal(request, stream, identity, started, "bad_path")
            path = normal
        if request.method in MAY_END_HERE and ends_here(request):
            return self._last_hop(request, stream, identity, started)
        route = self.table.match(request.method, path, request.fields)
        if route is None:
            return self._refusal(request, stream, identity, started, "no_route")
        trusted = self.trusted
        client = stream.peer if trusted is None else trusted.client(request, stream.peer)
        if not isinstance(route, ProxyRoute):
            if isinstance(route, LocalRoute):
                return self._local(route, request, stream, identity, started, client)
            return self._answer(route, request, path, stream, identity, started, client)
        target = request.target
        if route.rewrite is not None:
            target = route.rewrite.apply(target, path)
        return Exchange(
            route,
            route.cluster if route.split is None else route.split.choose(),
            request,
            stream,
            target,
            forwarding_headers(request, stream, identity, trusted),
            accounts=self._accounts,
            request_id=identity,
            client=client,
            started=started,
        )

    def reject(self, error: ProtocolError, stream: DownstreamStream) -> None:
        """Answers what was no request: it has no route, no method and no id."""
        started = perf_counter()
        self._accounts.metrics.in_flight += 1
        request = Request(b"-", b"-", [], False)
        identity = request_id(request.fields)
        self._refusal(request, stream, identity, started, error.reason, error.detail).start()

    def _account(
        self,
        route: str,
        stats: RouteStats,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        client: str,
    ) -> Callable[..., None]:
        """The account of what no service takes part in; ``status`` and ``reason`` are to come."""
        return partial(
            self._accounts.close_exchange,
            request,
            stream,
            stats,
            started=started,
            detail="",
            route=route,
            service="",
            endpoint="",
            request_id=identity,
            client=client,
        )

    def _refusal(
        self,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        reason: str,
        detail: str | None = None,
    ) -> Refusal:
        account = self._account_without_route(request, stream, identity, started)
        return Refusal(GatewayError(reason, detail), request, stream, identity, account)

    def _last_hop(
        self, request: Request, stream: DownstreamStream, identity: bytes, started: float
    ) -> Consumer:
        """OPTIONS or TRACE that go no further."""
        account = self._account_without_route(request, stream, identity, started)
        if request.method == b"OPTIONS":
            return LocalAnswer((204, [], b""), request, stream, identity, account)
        error = GatewayError("method_not_allowed", headers={"Allow": "OPTIONS"})
        return Refusal(error, request, stream, identity, account)

    def _account_without_route(
        self, request: Request, stream: DownstreamStream, identity: bytes, started: float
    ) -> Callable[..., None]:
        stats = self._accounts.metrics.routes[NO_ROUTE]
        return self._account(NO_ROUTE, stats, request, stream, identity, started, stream.peer)

    def _local(
        self,
        route: LocalRoute,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        client: str,
    ) -> Consumer:
        account = self._account(route.name, route.stats, request, stream, identity, started, client)

        def finished(status: int, reason: str) -> None:
            account(status=status or 499, reason=reason)

        def reject(error: ProtocolError) -> None:
            account(status=REASONS[error.reason].status, reason=error.reason)
            problem = GatewayError(error.reason, error.detail)
            send_problem(stream, problem, request=request, request_id=identity)

        extra: Headers = [(b"x-request-id", identity)]
        return TornadoConsumer(route.application, request, stream, extra, reject, finished, client)

    def _answer(
        self,
        route: AnswerRoute,
        request: Request,
        path: bytes,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        client: str,
    ) -> Consumer:
        account = self._account(route.name, route.stats, request, stream, identity, started, client)
        # What a service would be told of how the client has come: the same proxies are believed.
        told = dict(forwarding_headers(request, stream, identity, self.trusted))
        scheme, host = told[b"x-forwarded-proto"], told[b"x-forwarded-host"]
        if scheme not in SCHEMES:
            scheme = stream.scheme
        reply = route.reply.head(request, path, scheme, host)
        if reply is None:
            error = GatewayError("bad_request", "A redirect from here needs a plain Host field.")
            return Refusal(error, request, stream, identity, account)
        return LocalAnswer(reply, request, stream, identity, account)


class Refusal:
    """A consumer that answers with an error at once and takes nothing."""

    __slots__ = ("_account", "_error", "_identity", "_request", "_stream")

    def __init__(
        self,
        error: GatewayError,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        account: Callable[..., None],
    ) -> None:
        self._error = error
        self._request = request
        self._stream = stream
        self._identity = identity
        self._account = account

    def start(self) -> None:
        self._account(status=self._error.status, reason=self._error.reason)
        send_problem(self._stream, self._error, request=self._request, request_id=self._identity)

    # The stream is ended in ``start``: none of these is ever called.

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_request_error(self, error: ProtocolError) -> None: ...

    def on_downstream_closed(self) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
