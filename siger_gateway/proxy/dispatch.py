"""From a parsed request to the one who answers it. The phases *match route* and *filters*.

Everything here is a plain function of the request and of one immutable table; a reload swaps the
table by assignment, and an exchange keeps the route that it started with. Only a filter that has to
ask somebody makes a request wait, in ``held``.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

from siger_gateway.errors import GatewayError
from siger_gateway.filters.chain import Filters
from siger_gateway.filters.filter import Call, Reply, Verdict
from siger_gateway.grpc.status import is_grpc
from siger_gateway.grpc.web import WebCall, web_call
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import Consumer, DownstreamStream
from siger_gateway.http.tornado import Caller, TornadoConsumer
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.answer import LocalAnswer, Refusal
from siger_gateway.proxy.arrival import Arrival
from siger_gateway.proxy.exchange import Exchange
from siger_gateway.proxy.forwarded import (
    TrustedProxies,
    client_origin,
    forwarding_headers,
    has_looped,
    request_id,
)
from siger_gateway.proxy.grpc_exchange import GrpcExchange
from siger_gateway.proxy.grpc_web import WebConsumer, WebStream, as_grpc
from siger_gateway.proxy.held import Held
from siger_gateway.proxy.last_hop import MAY_END_HERE, ends_here
from siger_gateway.proxy.local_call import LocalCall
from siger_gateway.proxy.route import LocalRoute, ProxyRoute, Route
from siger_gateway.proxy.transcoded_exchange import TranscodedExchange
from siger_gateway.routing.path import PERCENT, SEMICOLON, is_plain, normalize, other_readings
from siger_gateway.routing.table import RouteTable
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:  # it takes protobuf
    from siger_gateway.proxy.transcode import Transcoding

NO_ROUTE: Final = "-"
"""The route label of requests that matched none."""

PREFLIGHT: Final = b"access-control-request-method"
"""The method that a page is going to use (Fetch: "CORS-preflight request")."""


EVASIVE: Final = "Some services would read the path as another one, which is guarded."
UNDECIDED: Final = "A field that decides about the route came more than once."


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
        route = None
        if request.method in MAY_END_HERE:
            if ends_here(request):
                return self._last_hop(request, stream, identity, started)
            route = self._route_of_preflight(request, path)
        if route is None:
            route = self.table.match(request.method, path, request.fields)
        if route is None:
            return self._refusal(request, stream, identity, started, "no_route")
        if (SEMICOLON in path or PERCENT in path) and self._evades(route, request, path):
            return self._refusal(request, stream, identity, started, "bad_path", EVASIVE)
        if len(request.fields) != len(request.headers) and self._is_undecided(request):
            return self._refusal(request, stream, identity, started, "bad_request", UNDECIDED)
        trusted = self.trusted
        client = stream.peer if trusted is None else trusted.client(request, stream.peer)
        if not route.filters and isinstance(route, ProxyRoute):
            return self._exchange(route, request, path, stream, identity, started, client, None)
        scheme = client_origin(request, stream, trusted)[0]
        call = Call(request, client, scheme, stream)
        arrival = Arrival(self._accounts, route.name, route.stats, call, path, identity, started)
        return self._filtered(route, arrival, route.filters)

    def reject(self, error: ProtocolError, stream: DownstreamStream) -> None:
        """Answers what was no request: it has no route, no method and no id."""
        started = perf_counter()
        self._accounts.metrics.in_flight += 1
        request = Request(b"-", b"-", [], False)
        identity = request_id(request.fields)
        self._refusal(request, stream, identity, started, error.reason, error.detail).start()

    def _route_of_preflight(self, request: Request, path: bytes) -> Route | None:
        """The route that a page asks for leave to use, where that says who may."""
        method = request.fields.get(PREFLIGHT)
        if method is None or request.method != b"OPTIONS" or b"origin" not in request.fields:
            return None
        route = self.table.match_preflight(method, path, request.fields)
        return route if route is not None and route.cors else None

    def _evades(self, route: Route, request: Request, path: bytes) -> bool:
        """Whether a service could take ``path`` for one that another route guards. What is refused
        here is no loss where nothing is guarded: ``%2F`` in a name passes then."""
        match = self.table.match
        for reading in other_readings(path):
            other = match(request.method, reading, request.fields)
            if other is not None and other is not route and other.guarded:
                return True
        return False

    def _is_undecided(self, request: Request) -> bool:
        """Whether a field that routes are told apart by is there twice."""
        deciding = self.table.deciding
        if not deciding:
            return False
        names = [name for name, _ in request.headers if name in deciding]
        return len(names) != len(set(names))

    def _refusal(
        self,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        reason: str,
        detail: str | None = None,
    ) -> Refusal:
        arrival = self._without_route(request, stream, identity, started)
        return Refusal(arrival, GatewayError(reason, detail))

    def _last_hop(
        self, request: Request, stream: DownstreamStream, identity: bytes, started: float
    ) -> Consumer:
        """OPTIONS or TRACE that go no further."""
        arrival = self._without_route(request, stream, identity, started)
        if request.method == b"OPTIONS":
            return LocalAnswer(arrival, (204, [], b""))
        error = GatewayError("method_not_allowed", headers={"Allow": "OPTIONS"})
        return Refusal(arrival, error)

    def _without_route(
        self, request: Request, stream: DownstreamStream, identity: bytes, started: float
    ) -> Arrival:
        call = Call(request, stream.peer, stream.scheme, stream)
        stats = self._accounts.metrics.routes[NO_ROUTE]
        return Arrival(self._accounts, NO_ROUTE, stats, call, request.path, identity, started)

    # Phase: filters.

    def _filtered(self, route: Route, arrival: Arrival, filters: Filters) -> Consumer:
        """The consumer of a request that has yet to pass ``filters``."""
        call = arrival.call
        for number, check in enumerate(filters, 1):
            verdict = check(call)
            if verdict is None:
                continue
            if isinstance(verdict, GatewayError | Reply):
                return _answered(arrival, verdict)
            return Held(arrival, verdict, partial(self._go_on, route, arrival, filters[number:]))
        return self._passed(route, arrival)

    def _go_on(
        self, route: Route, arrival: Arrival, filters: Filters, verdict: Verdict
    ) -> Consumer:
        if verdict is not None:
            return _answered(arrival, verdict)
        return self._filtered(route, arrival, filters)

    def _passed(self, route: Route, arrival: Arrival) -> Consumer:
        """The consumer of a request that nothing stands against any more."""
        call = arrival.call
        if isinstance(route, ProxyRoute):
            return self._exchange(
                route,
                call.request,
                arrival.path,
                call.stream,
                arrival.request_id,
                arrival.started,
                call.client,
                call,
            )
        if isinstance(route, LocalRoute):
            return self._local(route, arrival)
        scheme, host = client_origin(call.request, call.stream, self.trusted)
        reply = route.reply.head(call.request, arrival.path, scheme, host)
        if reply is None:
            error = GatewayError("bad_request", "A redirect from here needs a plain Host field.")
            return Refusal(arrival, error)
        return LocalAnswer(arrival, reply)

    def _local(self, route: LocalRoute, arrival: Arrival) -> Consumer:
        """The consumer of a request that the gateway itself answers."""
        call, request_id = arrival.call, arrival.request_id
        caller = _caller(call) if route.asks_who else None
        if route.services is not None and call.request.method == b"POST":
            web = _as_grpc(call)
            if call.request.http2 and is_grpc(call.request.fields.get(b"content-type", b"")):
                local = LocalCall(arrival, self._accounts.metrics.grpc, route.services, caller)
                return local if web is None else WebConsumer(local, call.request, web)

        def finished(status: int, reason: str) -> None:
            arrival.close(status or 499, reason)

        def reject(error: ProtocolError) -> None:
            arrival.refuse(GatewayError(error.reason, error.detail))

        return TornadoConsumer(
            route.application,
            call.request,
            call.stream,
            request_id,
            call.dress,
            reject,
            finished,
            call.client,
            caller,
        )

    def _exchange(
        self,
        route: ProxyRoute,
        request: Request,
        path: bytes,
        stream: DownstreamStream,
        identity: bytes,
        started: float,
        client: str,
        call: Call | None,
    ) -> Consumer:
        kind = Exchange
        web = None
        if request.method == b"POST":
            content_type = request.fields.get(b"content-type", b"")
            if content_type == b"application/grpc":  # nearly all calls, and certainly not of a page
                if request.http2:
                    kind = GrpcExchange
            elif content_type.startswith(b"application/grpc"):
                web = web_call(content_type, request.fields.get(b"accept", b""))
                if web is not None:
                    request, stream = as_grpc(request, web), WebStream(stream, web)
                if request.http2 and is_grpc(request.fields[b"content-type"]):
                    kind = GrpcExchange
        target = request.target
        if route.rewrite is not None:
            target = route.rewrite.apply(target, path)
        cluster = route.cluster if route.split is None else route.split.choose()
        if route.transcoding is not None and kind is Exchange:
            transcoding = route.transcoding.get(cluster.name)
            if transcoding is not None:
                if call is None:
                    call = Call(request, client, stream.scheme, stream)
                arrival = Arrival(
                    self._accounts, route.name, route.stats, call, path, identity, started
                )
                return self._transcoded(route, cluster, transcoding, target, arrival)
        forwarding = forwarding_headers(request, stream, identity, self.trusted)
        if call is not None:
            forwarding += call.to_service
        exchange = kind(
            route,
            cluster,
            request,
            stream,
            target,
            forwarding,
            accounts=self._accounts,
            request_id=identity,
            client=client,
            started=started,
            call=call,
        )
        if web is not None and isinstance(exchange, GrpcExchange):
            return WebConsumer(exchange, request, web)
        return exchange

    def _transcoded(
        self,
        route: ProxyRoute,
        cluster: Cluster,
        transcoding: Transcoding,
        target: bytes,
        arrival: Arrival,
    ) -> Consumer:
        """The consumer of a request that a service of gRPC is to answer in JSON."""
        call = arrival.call
        asked = call.request
        try:
            match = transcoding.match(asked, target)
        except GatewayError as error:
            return Refusal(arrival, error)
        request = transcoding.as_grpc(asked, match)
        forwarding = forwarding_headers(request, call.stream, arrival.request_id, self.trusted)
        exchange = TranscodedExchange(
            asked,
            transcoding.reply(match, asked, call.stream, arrival.request_id),
            route,
            cluster,
            request,
            forwarding + call.to_service,
            accounts=self._accounts,
            request_id=arrival.request_id,
            client=call.client,
            started=arrival.started,
            call=call,
        )
        return transcoding.consumer(match, exchange, request)


def _answered(arrival: Arrival, verdict: GatewayError | Reply) -> Consumer:
    """The consumer of a request that a filter has answered."""
    if isinstance(verdict, GatewayError):
        return Refusal(arrival, verdict)
    return LocalAnswer(arrival, (verdict.status, verdict.headers, b""))


def _as_grpc(call: Call) -> WebCall | None:
    """Makes a call of gRPC-Web one of gRPC, and says how it is translated; None: it was none."""
    request = call.request
    content_type = request.fields.get(b"content-type", b"")
    if not content_type.startswith(b"application/grpc"):
        return None
    web = web_call(content_type, request.fields.get(b"accept", b""))
    if web is not None:
        call.request, call.stream = as_grpc(request, web), WebStream(call.stream, web)
    return web


def _caller(call: Call) -> Caller:
    identity = call.identity
    return Caller("", frozenset()) if identity is None else Caller(identity.user, identity.roles)
