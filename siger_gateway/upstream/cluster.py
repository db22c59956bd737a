"""A service as the data plane sees it: endpoints, and a balancer over them.

``update`` swaps the whole table by assignment, so readers need no lock; endpoints that stay keep
their object, and with it their connections and counters. An exchange in flight keeps the endpoint
that it has, even if the next table no longer holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.balancer import POLICIES, Balancer
from siger_gateway.upstream.pool import Pool


class Endpoint:
    """One address of a cluster."""

    __slots__ = ("active", "address", "ejected", "healthy", "pool", "weight")

    def __init__(self, spec: EndpointSpec, pool: PoolConfig) -> None:
        host, _, port = spec.address.rpartition(":")
        self.address = spec.address
        self.weight = spec.weight
        self.pool = Pool(host.strip("[]"), int(port), pool)
        self.active = 0
        """Exchanges now on this endpoint."""
        self.healthy = True
        """What the active health checks say."""
        self.ejected = False
        """Whether outlier detection has taken it out for a while."""

    def __repr__(self) -> str:
        return f"<Endpoint {self.address} weight={self.weight} active={self.active}>"

    @property
    def available(self) -> bool:
        return self.healthy and not self.ejected


HOSTS: Final[dict[str, bytes | None]] = {"preserve": None, "endpoint": b""}

Observer = Callable[[Endpoint, int, float], None]
"""Told how each attempt on an endpoint ended: the status of the response, or 0 when there was none
or it broke off, and the seconds from the start of the attempt."""


class Cluster:
    """The endpoints of one service.

    :param stats: where attempts are counted; it outlives the cluster.
    """

    __slots__ = ("_balancer", "config", "endpoints", "host", "name", "observe", "stats")

    def __init__(self, name: str, config: ServiceConfig, stats: ServiceStats) -> None:
        self.name = name
        self.config = config
        self.stats = stats
        self.endpoints: tuple[Endpoint, ...] = ()
        self.host = HOSTS.get(config.host_header, config.host_header.encode())
        """What the service gets as Host: None the client's, b"" the endpoint's address."""
        self.observe: Observer | None = None
        """None when nobody wants to know: then it costs a comparison."""
        self._balancer: Balancer = POLICIES[config.balance](())
        self.update(config.endpoints)

    def __repr__(self) -> str:
        return f"<Cluster {self.name} {self.config.balance} {list(self.endpoints)}>"

    def update(self, specs: Iterable[EndpointSpec]) -> None:
        """Makes ``specs`` the whole table. Idle connections of endpoints that left are closed."""
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        endpoints = []
        for spec in specs:
            endpoint = known.pop(spec.address, None)
            if endpoint is None:
                endpoint = Endpoint(spec, self.config.pool)
            endpoint.weight = spec.weight
            endpoints.append(endpoint)
        self.endpoints = tuple(endpoints)
        self.rebalance()
        for gone in known.values():
            gone.pool.retire()

    def rebalance(self) -> None:
        """A new balancer over the endpoints that are available now, or over all when none is:
        to try is better than to refuse everything."""
        available = [endpoint for endpoint in self.endpoints if endpoint.available]
        self._balancer = POLICIES[self.config.balance](available or self.endpoints)

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint for the next attempt, none of ``tried``; None when there is none."""
        return self._balancer.pick(tried)

    def close_stale(self, now: float) -> None:
        """See ``Pool.close_stale``."""
        for endpoint in self.endpoints:
            endpoint.pool.close_stale(now)

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.pool.close()
