"""What routes need at run time, prepared once when the table is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from tornado.httputil import HTTPServerConnectionDelegate

from siger_gateway.http1.timeouts import TimeoutQueue
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.telemetry.metrics import RouteStats
from siger_gateway.upstream.cluster import Cluster


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """A route to a cluster.

    :param strip_prefix: removed from the start of the path before forwarding; b"" for nothing.
    :param waiting: exchanges until their response head has come.
    :param trying: the same for one attempt; None: nothing but ``waiting`` limits an attempt.
    """

    name: str
    stats: RouteStats
    cluster: Cluster
    strip_prefix: bytes
    waiting: TimeoutQueue
    retry: RetryPolicy
    trying: TimeoutQueue | None


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """A route to the gateway's own handlers."""

    name: str
    stats: RouteStats
    application: HTTPServerConnectionDelegate


Route = ProxyRoute | LocalRoute
