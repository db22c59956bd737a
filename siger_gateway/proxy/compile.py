"""From the effective routes to the table that the dispatcher asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tornado.httputil import HTTPServerConnectionDelegate

from siger_gateway.config.actions import actions_of
from siger_gateway.config.schema import RouteConfig
from siger_gateway.filters.authenticate import Authenticator
from siger_gateway.filters.chain import Filters, compile_filters, is_guarded
from siger_gateway.filters.cors import CORS_FIELDS
from siger_gateway.filters.rate_limit import Limits
from siger_gateway.grpc.service import Services
from siger_gateway.http.timeouts import Ticker, TimeoutQueue
from siger_gateway.proxy.answer import compile_reply
from siger_gateway.proxy.edits import compile_edits
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.proxy.route import AnswerRoute, LocalRoute, ProxyRoute, Route, Split
from siger_gateway.routing.effective import EffectiveRoute
from siger_gateway.routing.rewrite import path_rewrite, strip_rewrite
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:  # they take protobuf
    from siger_gateway.grpc.reflected import Reflected
    from siger_gateway.grpc.transcoding import Transcoder
    from siger_gateway.proxy.transcode import Transcoding


class Compiler:
    """What routes are made of.

    :param cluster: by the name of its service.
    :param application: the gateway's own handlers.
    :param services: its own services of gRPC.
    """

    def __init__(
        self,
        metrics: Metrics,
        ticker: Ticker,
        cluster: Callable[[str], Cluster],
        application: HTTPServerConnectionDelegate,
        services: Services,
        limits: Limits,
    ) -> None:
        self._metrics = metrics
        self._ticker = ticker
        self._cluster = cluster
        self._application = application
        self._services = services
        self._limits = limits
        self._authenticator: Authenticator | None = None
        self._credentials: frozenset[str] = frozenset()
        self._transcoding: Mapping[str, Transcoding] = {}

    def rely_on(self, authenticator: Authenticator | None, credentials: Iterable[str]) -> None:
        """The means by which clients show who they are, from the next table on.

        :param credentials: names of fields that are for the gateway alone: on a route that asks who
            it is, no service gets to see them.
        """
        self._authenticator = authenticator
        self._credentials = frozenset(credentials)

    def transcode_by(self, transcoders: Mapping[str, Transcoder | Reflected]) -> None:
        """What JSON becomes for services of gRPC, by their names, from the next table on."""
        self._transcoding = {}
        if transcoders:
            from siger_gateway.proxy.transcode import Transcoding

            self._transcoding = {name: Transcoding(one) for name, one in transcoders.items()}

    def table(self, routes: Iterable[EffectiveRoute]) -> RouteTable[Route]:
        """The table of ``routes``; those from tags take what the others of the same path leave."""
        self._limits.begin()
        entries: list[tuple[EffectiveRoute, Route]] = [(one, self._route(one)) for one in routes]
        return RouteTable(
            [(one.config.match, route) for one, route in entries if one.origin != "consul"],
            [(one.config.match, route) for one, route in entries if one.origin == "consul"],
        )

    def local(
        self,
        config: RouteConfig,
        application: HTTPServerConnectionDelegate,
        services: Services | None = None,
    ) -> LocalRoute:
        """A route to handlers of the gateway's own.

        :param services: what answers calls of gRPC there; None: nothing does.
        """
        stats = self._metrics.routes[config.name]
        # A route of the file may be called "jobs" too, and has limits of its own.
        own = replace(config, name=f"gateway/{config.name}")
        filters = compile_filters(own, self._limits, self._authenticator)
        return LocalRoute(
            config.name,
            stats,
            application,
            filters,
            bool(config.cors.origins),
            is_guarded(config),
            config.asks_who,
            services,
        )

    def _route(self, effective: EffectiveRoute) -> Route:
        config = effective.config
        if effective.origin == "gateway":
            return self.local(config, self._application, self._services)
        stats = self._metrics.routes[config.name]
        filters = compile_filters(config, self._limits, self._authenticator)
        cors = bool(config.cors.origins)
        if actions_of(config)[0] in ("redirect", "direct_response"):
            edits = compile_edits(config.headers.response)
            reply, guarded = compile_reply(config, edits), is_guarded(config)
            return AnswerRoute(config.name, stats, reply, filters, cors, guarded)
        return self._proxied(config, filters)

    def _proxied(self, config: RouteConfig, filters: Filters) -> ProxyRoute:
        shown = self._credentials if config.asks_who else ()
        cors = bool(config.cors.origins)
        rewrite = strip_rewrite(config.strip_prefix) or path_rewrite(config.match, config.rewrite)
        retry = config.retry
        weights = [(self._cluster(one.service), one.weight) for one in config.split]
        first = weights[0][0] if weights else self._cluster(config.service)
        names = [cluster.name for cluster, _ in weights] or [first.name]
        known = self._transcoding
        return ProxyRoute(
            config.name,
            self._metrics.routes[config.name],
            first,
            self._ticker.queue("response", config.timeout),
            RetryPolicy.of(retry.attempts, retry.on),
            self._queue("attempt", retry.per_try_timeout),
            self._queue("stream", config.stream_idle_timeout),
            rewrite=rewrite,
            split=Split(weights) if weights else None,
            request_edits=compile_edits(config.headers.request, shown),
            response_edits=compile_edits(config.headers.response, CORS_FIELDS if cors else ()),
            filters=filters,
            cors=cors,
            guarded=is_guarded(config),
            transcoding={one: known[one] for one in names if one in known} or None,
        )

    def _queue(self, purpose: str, seconds: float) -> TimeoutQueue | None:
        return self._ticker.queue(purpose, seconds) if seconds else None
