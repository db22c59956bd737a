"""What routes need at run time, prepared once when the table is compiled."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import random
from typing import TYPE_CHECKING

from tornado.httputil import HTTPServerConnectionDelegate

from siger_gateway.filters.chain import Filters
from siger_gateway.grpc.service import Services
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.proxy.answer import Reply
from siger_gateway.proxy.edits import Edits
from siger_gateway.proxy.retry import RetryPolicy
from siger_gateway.routing.rewrite import Rewrite
from siger_gateway.telemetry.metrics import RouteStats
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:  # it takes protobuf
    from siger_gateway.proxy.transcode import Transcoding


class Split:
    """Divides requests between clusters, each by chance in proportion to its weight: no state, so
    any number of gateways together divide them the same way.

    :param weights: whole numbers, not all of them 0.
    """

    __slots__ = ("_bounds", "_clusters", "_total")

    def __init__(self, weights: Sequence[tuple[Cluster, int]]) -> None:
        taking = [(cluster, weight) for cluster, weight in weights if weight]
        self._clusters = tuple(cluster for cluster, _ in taking)
        self._bounds = list(accumulate(weight for _, weight in taking))
        self._total = self._bounds[-1]

    def choose(self) -> Cluster:
        return self._clusters[bisect(self._bounds, random() * self._total)]


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """A route to a cluster. What is None costs one comparison.

    :param cluster: of a split, the first one.
    :param filters: what decides whether a request may pass, in the order in which it is asked.
    :param cors: one of them answers preflights.
    :param guarded: others refuse requests that could have passed elsewhere.
    :param waiting: exchanges until their response head has come.
    :param trying: the same for one attempt; None: nothing but ``waiting`` limits an attempt.
    :param streaming: exchanges after the head, as long as something comes; None: for ever.
    :param transcoding: by the name of the cluster; None: none of them takes JSON for gRPC.
    """

    name: str
    stats: RouteStats
    cluster: Cluster
    waiting: TimeoutQueue
    retry: RetryPolicy
    trying: TimeoutQueue | None
    streaming: TimeoutQueue | None = None
    rewrite: Rewrite | None = None
    split: Split | None = None
    request_edits: Edits | None = None
    response_edits: Edits | None = None
    filters: Filters = ()
    cors: bool = False
    guarded: bool = False
    transcoding: Mapping[str, Transcoding] | None = None


@dataclass(frozen=True, slots=True)
class AnswerRoute:
    """A route that the configuration itself answers."""

    name: str
    stats: RouteStats
    reply: Reply
    filters: Filters = ()
    cors: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """A route to the gateway's own handlers.

    :param asks_who: one of the filters finds out who a request comes from.
    :param services: those that answer gRPC; None: nothing here does.
    """

    name: str
    stats: RouteStats
    application: HTTPServerConnectionDelegate
    filters: Filters = ()
    cors: bool = False
    guarded: bool = False
    asks_who: bool = False
    services: Services | None = None


Route = ProxyRoute | AnswerRoute | LocalRoute
