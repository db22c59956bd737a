"""A service as the data plane sees it: endpoints, and a balancer over them.

``update`` swaps the whole table by assignment, so readers need no lock; endpoints that stay keep
their object, and with it their connections and counters. An exchange in flight keeps the endpoint
that it has, even if the next table no longer holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.http1.message import Request
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream import ewma
from siger_gateway.upstream.balancer import POLICIES, Balancer
from siger_gateway.upstream.hashing import Ring, make_hash_key, members_of
from siger_gateway.upstream.pool import Pool
from siger_gateway.upstream.slow_start import WARM, SlowStart


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

    def __init__(self, spec: EndpointSpec, pool: PoolConfig) -> None:
        host, _, port = spec.address.rpartition(":")
        self.address = spec.address
        self.weigh(spec.weight, WARM)
        self.pool = Pool(host.strip("[]"), int(port), pool)
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


Observer = Callable[[Endpoint, int, float], None]
"""Told how each attempt on an endpoint ended: the status of the response, or 0 when there was none
or it broke off, and the seconds from the start of the attempt."""


class Cluster:
    """The endpoints of one service.

    :param stats: where attempts are counted; it outlives the cluster.
    """

    __slots__ = (
        "_balancer",
        "_hash_key",
        "_ring",
        "_slow_start",
        "_usable",
        "config",
        "endpoints",
        "name",
        "observe",
        "stats",
    )

    def __init__(self, name: str, config: ServiceConfig, stats: ServiceStats) -> None:
        self.name = name
        self.config = config
        self.stats = stats
        self.endpoints: tuple[Endpoint, ...] = ()
        self.observe: Observer | None = None
        """None when nobody wants to know: then it costs a comparison. See ``add_observer``."""
        if config.balance == "ewma":
            self.add_observer(ewma.observe)
        self._usable: tuple[Endpoint, ...] = ()
        self._balancer: Balancer = POLICIES[config.balance](())
        self._hash_key = make_hash_key(config.hash_on) if config.hash_on else None
        self._ring = Ring(())  # of all endpoints, if there is a hash key
        self._slow_start = SlowStart(config.slow_start) if config.slow_start else None
        self.update(config.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.name} {self.config.balance} {list(self.endpoints)}>"

    def add_observer(self, observer: Observer) -> None:
        """From now on ``observer`` is told too, after those that were added before."""
        before = self.observe
        if before is None:
            self.observe = observer
            return

        def both(endpoint: Endpoint, status: int, seconds: float) -> None:
            before(endpoint, status, seconds)
            observer(endpoint, status, seconds)

        self.observe = both

    def update(self, specs: Iterable[EndpointSpec]) -> None:
        """Makes ``specs`` the whole table. Idle connections of endpoints that left are closed."""
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        endpoints = []
        for spec in specs:
            endpoint = known.pop(spec.address, None)
            if endpoint is None:
                endpoint = Endpoint(spec, self.config.pool)
            endpoint.weigh(spec.weight, endpoint.warmth)
            endpoints.append(endpoint)
        self.endpoints = tuple(endpoints)
        if self._hash_key is not None and members_of(endpoints) != self._ring.members:
            self._ring = Ring(endpoints)
        self.rebalance()
        for gone in known.values():
            gone.pool.retire()

    def rebalance(self) -> None:
        """A new balancer over the endpoints that are available now, or over all when none is:
        to try is better than to refuse everything."""
        available = tuple(endpoint for endpoint in self.endpoints if endpoint.available)
        if self._slow_start is not None:
            self._slow_start.follow(frozenset(available))
        self._usable = available or self.endpoints
        self._ring.usable = frozenset(self._usable)
        self._reweigh()

    def _reweigh(self) -> None:
        self._balancer = POLICIES[self.config.balance](self._usable)

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint for the next attempt, none of ``tried``; None when there is none."""
        return self._balancer.pick(tried)

    def pick_for(self, request: Request, client: str, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The same for one request, which may have a key that tells its endpoint.

        :param client: the address of the client.
        """
        if self._hash_key is not None:
            key = self._hash_key(request, client)
            endpoint = self._ring.pick(key, tried) if key is not None else None
            if endpoint is not None:
                return endpoint
        return self._balancer.pick(tried)

    def close_stale(self, now: float) -> None:
        """See ``Pool.close_stale``; weights of endpoints that are warming up grow, too."""
        for endpoint in self.endpoints:
            endpoint.pool.close_stale(now)
        if self._slow_start and self._slow_start.advance(now):  # empty: nothing is warming
            self._reweigh()

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.pool.close()
