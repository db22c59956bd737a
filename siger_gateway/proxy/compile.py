"""From the effective routes to the table that the dispatcher asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tornado.httputil import HTTPServerConnectionDelegate

from siger_gateway.config.actions import actions_of
from siger_gateway.config.schema import RouteConfig
from siger_gateway.http1.timeouts import Ticker, TimeoutQueue
from siger_gateway.proxy.answer import compile_reply
from siger_gateway.proxy.edits import compile_edits
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.proxy.route import AnswerRoute, LocalRoute, ProxyRoute, Route, Split
from siger_gateway.routing.effective import EffectiveRoute
from siger_gateway.routing.rewrite import path_rewrite, strip_rewrite
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.cluster import Cluster


class Compiler:
    """What routes are made of.

    :param cluster: by the name of its service.
    :param application: the gateway's own handlers.
    """

    def __init__(
        self,
        metrics: Metrics,
        ticker: Ticker,
        cluster: Callable[[str], Cluster],
        application: HTTPServerConnectionDelegate,
    ) -> None:
        self._metrics = metrics
        self._ticker = ticker
        self._cluster = cluster
        self._application = application

    def table(self, routes: Iterable[EffectiveRoute]) -> RouteTable[Route]:
        """The table of ``routes``; those from tags take what the others of the same path leave."""
        entries: list[tuple[EffectiveRoute, Route]] = [(one, self._route(one)) for one in routes]
        return RouteTable(
            [(one.config.match, route) for one, route in entries if one.origin != "consul"],
            [(one.config.match, route) for one, route in entries if one.origin == "consul"],
        )

    def _route(self, effective: EffectiveRoute) -> Route:
        config = effective.config
        stats = self._metrics.routes[config.name]
        if effective.origin == "gateway":
            return LocalRoute(config.name, stats, self._application)
        if actions_of(config)[0] in ("redirect", "direct_response"):
            edits = compile_edits(config.headers.response)
            return AnswerRoute(config.name, stats, compile_reply(config, edits))
        return self._proxied(config)

    def _proxied(self, config: RouteConfig) -> ProxyRoute:
        rewrite = strip_rewrite(config.strip_prefix) or path_rewrite(config.match, config.rewrite)
        retry = config.retry
        weights = [(self._cluster(one.service), one.weight) for one in config.split]
        return ProxyRoute(
            config.name,
            self._metrics.routes[config.name],
            weights[0][0] if weights else self._cluster(config.service),
            self._ticker.queue("response", config.timeout),
            RetryPolicy.of(retry.attempts, retry.on),
            self._queue("attempt", retry.per_try_timeout),
            self._queue("stream", config.stream_idle_timeout),
            rewrite=rewrite,
            split=Split(weights) if weights else None,
            request_edits=compile_edits(config.headers.request),
            response_edits=compile_edits(config.headers.response),
        )

    def _queue(self, purpose: str, seconds: float) -> TimeoutQueue | None:
        return self._ticker.queue(purpose, seconds) if seconds else None
