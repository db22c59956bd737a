"""A service as the data plane sees it: endpoints, and a balancer over them.

``update`` swaps the whole table by assignment, so readers need no lock; endpoints that stay keep
their object, and with it their connections and counters. An exchange in flight keeps the endpoint
that it has, even if the next table no longer holds it.

Which of them are chosen from: the healthy ones that are not ejected. When fewer than
``panic_threshold`` of the endpoints are healthy, or none is, health is disregarded (*panic*): the
checks may be what is wrong, and few endpoints cannot carry the load of all. When all that would be
left are ejected, ejections are disregarded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.http.message import Request
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.tls.client import ClientTls
from siger_gateway.upstream import ewma
from siger_gateway.upstream.balancer import POLICIES, Balancer
from siger_gateway.upstream.dial import Dialer
from siger_gateway.upstream.hashing import Ring, make_hash_key, members_of
from siger_gateway.upstream.health import HealthChecker
from siger_gateway.upstream.outlier import OutlierDetector
from siger_gateway.upstream.pool import Pool
from siger_gateway.upstream.slow_start import WARM, SlowStart
from siger_gateway.upstream.stream_pool import StreamPool
from siger_gateway.upstream.tls import client_files

RETRY_SHARE: Final = 0.2
"""Share of a service's active exchanges that may be retries: Envoy's and Finagle's default."""
RETRY_MINIMUM: Final = 3
"""Retries that may be active however little is going on: Envoy's min_retry_concurrency."""

log = logging.getLogger(__name__)


class Endpoint:
    """One address of a cluster."""

    __slots__ = (
        "active",
        "address",
        "effective_weight",
        "ejected",
        "healthy",
        "latency",
        "latency_at",
        "pool",
        "warmth",
        "weight",
    )

    def __init__(
        self,
        spec: EndpointSpec,
        pool: PoolConfig,
        tls: ClientTls | None = None,
        *,
        http2: bool = False,
    ) -> None:
        host, _, port = spec.address.rpartition(":")
        dialer = Dialer(host.strip("[]"), int(port), tls)
        self.address = spec.address
        self.weigh(spec.weight, WARM)
        self.pool: Pool | StreamPool = (StreamPool if http2 else Pool)(dialer, pool)
        self.active = 0
        """Exchanges now on this endpoint."""
        self.healthy = True
        """What the active health checks say."""
        self.ejected = False
        """Whether outlier detection has taken it out for a while."""
        self.latency = 0.0
        """Seconds to the response head, as ``ewma`` averages them; 0: not known."""
        self.latency_at = 0.0
        """``time.monotonic()`` when ``latency`` was set."""

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} weight={self.weight} active={self.active}>"

    @property
    def available(self) -> bool:
        return self.healthy and not self.ejected

    def weigh(self, weight: int, warmth: int) -> None:
        """Sets the configured weight, and how much of it counts: see ``slow_start``."""
        self.weight = weight
        self.warmth = warmth
        self.effective_weight = weight * warmth
        """What balancers go by: ``weight`` in twentieths, fewer while the endpoint warms up."""


HOSTS: Final[dict[str, bytes | None]] = {"preserve": None, "endpoint": b""}

Observer = Callable[[Endpoint, int, float], None]
"""Told what came of each attempt on an endpoint: the status when the head of the response is there,
or 0 when there was none or it broke off, and the seconds from the start of the attempt."""


class Cluster:
    """The endpoints of one service.

    :param stats: where attempts are counted; it outlives the cluster.
    """

    __slots__ = (
        "_balancer",
        "_changed",
        "_checker",
        "_hash_key",
        "_panic",
        "_rebalanced",
        "_ring",
        "_slow_start",
        "_usable",
        "changes",
        "config",
        "endpoints",
        "host",
        "name",
        "observe",
        "outlier",
        "retrying",
        "speaks_http2",
        "stats",
        "tls",
    )

    def __init__(self, name: str, config: ServiceConfig, stats: ServiceStats) -> None:
        self.name = name
        self.config = config
        self.stats = stats
        self.endpoints: tuple[Endpoint, ...] = ()
        self.host = HOSTS.get(config.host_header, config.host_header.encode())
        """What the service gets as Host: None the client's, b"" the endpoint's address."""
        self.speaks_http2 = config.protocol in ("h2", "h2c")
        """Whether its endpoints mostly do; each may say something else of itself."""
        self.changes = 0
        """How often the endpoints to choose from have become others."""
        self.retrying = 0
        """Retries under way, waiting for their turn or on an endpoint, of those that count."""
        self.tls: dict[str, ClientTls] = {}
        """Of the endpoints that speak ``https`` or ``h2``, each as soon as there is one."""
        self.observe: Observer | None = None
        """None when the balancer does not want to know: then it costs a comparison."""
        if config.balance == "ewma":
            self.observe = ewma.observe
        self.outlier: OutlierDetector | None = None
        """None when nothing is ejected: then it costs a comparison."""
        self._checker: HealthChecker | None = None
        self._changed = False  # some endpoint's ``available``, since the last rebalance
        self._rebalanced = False  # for such a change, in this tick
        self._panic = False
        if config.health_check.enabled:
            self._checker = HealthChecker(name, config.health_check, self._on_change)
        if config.outlier.enabled:
            now = asyncio.get_running_loop().time()
            self.outlier = OutlierDetector(name, config.outlier, now, self._on_change)
        self._usable: Sequence[Endpoint] = ()
        self._balancer: Balancer = POLICIES[config.balance](())
        self._hash_key = make_hash_key(config.hash_on) if config.hash_on else None
        self._ring = Ring(())  # of all endpoints, if there is a hash key
        self._slow_start = SlowStart(config.slow_start) if config.slow_start else None
        self.update(config.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.name} {self.config.balance} {list(self.endpoints)}>"

    def update(self, specs: Iterable[EndpointSpec]) -> None:
        """Makes ``specs`` the whole table. Idle connections of endpoints that left are closed."""
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        endpoints = []
        for spec in specs:
            protocol = spec.protocol or self.config.protocol  # of its own, or of the service
            tls = self._tls_for(protocol)
            http2 = protocol in ("h2", "h2c")
            endpoint = known.get(spec.address)
            if (
                endpoint is None
                or endpoint.pool.dialer.tls is not tls
                or isinstance(endpoint.pool, StreamPool) is not http2
            ):
                endpoint = Endpoint(spec, self.config.pool, tls, http2=http2)
            else:
                del known[spec.address]
            endpoint.weigh(spec.weight, endpoint.warmth)
            endpoints.append(endpoint)
        self.endpoints = tuple(endpoints)
        if self._hash_key is not None and members_of(endpoints) != self._ring.members:
            self._ring = Ring(endpoints)
        if self._checker is not None:
            self._checker.follow(self.endpoints)
        if self.outlier is not None:
            self.outlier.follow(self.endpoints)
        self.rebalance()
        for gone in known.values():
            gone.pool.retire()

    def _tls_for(self, protocol: str) -> ClientTls | None:
        if protocol in ("http", "h2c"):
            return None
        tls = self.tls.get(protocol)
        if tls is None:
            alpn = "h2" if protocol == "h2" else "http/1.1"
            tls = self.tls[protocol] = ClientTls(client_files(self.config.tls), alpn)
        return tls

    def rebalance(self) -> None:
        """A new balancer over the endpoints to choose from now."""
        self._changed = False
        self.changes += 1
        self._usable = self._candidates()
        in_use = frozenset(self._usable)
        self._ring.usable = in_use
        if self._slow_start is not None:
            self._slow_start.follow(in_use)
        self._reweigh()

    def _reweigh(self) -> None:
        self._balancer = POLICIES[self.config.balance](self._usable)

    def _candidates(self) -> Sequence[Endpoint]:
        """See the top of this file; empty only if the table is."""
        healthy = [endpoint for endpoint in self.endpoints if endpoint.healthy]
        least = self.config.health_check.panic_threshold * len(self.endpoints)
        panic = bool(self.endpoints) and (not healthy or len(healthy) < least)
        if panic != self._panic and self.endpoints:
            self._panic = panic
            fields = {"service": self.name, "healthy": len(healthy), "of": len(self.endpoints)}
            if panic:
                log.warning("too few healthy endpoints: all are used", extra={"fields": fields})
            else:
                log.info("enough healthy endpoints again", extra={"fields": fields})
        candidates = self.endpoints if panic else healthy
        return [endpoint for endpoint in candidates if not endpoint.ejected] or candidates

    def _on_change(self) -> None:
        # At once, because every request until then may meet the endpoint; but only once in a tick:
        # a table is expensive for some, and a hundred endpoints often fail together.
        if self._rebalanced:
            self._changed = True
        else:
            self._rebalanced = True
            self.rebalance()

    def pick(self, request: Request, client: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint for the next attempt, none of ``tried``; None when there is none.

        :param request: may have a key that tells its endpoint.
        :param client: the address of the client.
        """
        if self._hash_key is not None:
            key = self._hash_key(request, client)
            endpoint = self._ring.pick(key, tried) if key is not None else None
            if endpoint is not None:
                return endpoint
        return self._balancer.pick(tried)

    def begin_retry(self) -> bool:
        """Takes a place in the retry budget, if there is one; ``retrying -= 1`` gives it back.

        Retries multiply the load of a service that is failing from overload; the budget keeps
        that factor near one (Envoy's retry_budget; Google SRE book, chapter 21).
        """
        active = sum(endpoint.active for endpoint in self.endpoints)
        if self.retrying >= max(RETRY_MINIMUM, active * RETRY_SHARE):
            return False
        self.retrying += 1
        return True

    @property
    def ticks(self) -> bool:
        """Whether it has anything that ``tick`` would look at."""
        return bool(self._checker or self.outlier or self._slow_start is not None)

    def tend(self, now: float) -> None:
        """What time brings slowly: connections too old, other certificates. Touches every endpoint,
        so it is not for every tick.

        :param now: the loop's time.
        """
        for tls in self.tls.values():
            tls.look(now)
        for endpoint in self.endpoints:
            endpoint.pool.close_stale(now)

    def tick(self, now: float) -> None:
        """What time brings soon: ejections over, weights grown, a table that waits to be made.

        :param now: the loop's time.
        """
        if self.outlier is not None:
            self.outlier.tick(now)
        self._rebalanced = False
        if self._changed:
            self.rebalance()
        if self._slow_start and self._slow_start.advance(now):  # empty: nothing is warming up
            self._reweigh()

    def retire(self) -> None:
        """The configuration has it no more, as it was. Exchanges that have begun with it, and their
        retries, still find its endpoints."""
        if self._checker is not None:
            self._checker.follow(())
        for endpoint in self.endpoints:
            endpoint.pool.retire()

    async def close(self) -> None:
        if self._checker is not None:
            await self._checker.close()
        for endpoint in self.endpoints:
            await endpoint.pool.close()
