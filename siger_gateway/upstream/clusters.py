"""All clusters of the gateway: made from the configuration, fed by discovery.

A cluster whose configuration did not change survives a reload, with its connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from siger_gateway.config.schema import EndpointSpec, ServiceConfig
from siger_gateway.telemetry.metrics import Metrics, Samples
from siger_gateway.upstream.cluster import Cluster

TURNS: Final = 10
"""Ticks in which every cluster is tended once, each at another one: a second."""
HASTY: Final = 10.0
"""Seconds of ``idle_timeout`` below which a second matters: such clusters are tended every tick."""


class Clusters:
    """Name -> cluster, and Consul name -> the clusters that it feeds."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._clusters: dict[str, Cluster] = {}
        self._discovered: dict[str, Sequence[EndpointSpec]] = {}
        self._ticking: Sequence[Cluster] = ()
        self._turns: Sequence[Sequence[Cluster]] = [()] * TURNS
        self._turn = 0
        metrics.gauge(
            "siger_upstream_endpoints",
            "Endpoints in the table.",
            ("service", "state"),
            self._endpoint_samples,
        )
        metrics.gauge(
            "siger_upstream_connections",
            "Connections to endpoints.",
            ("service", "state"),
            self._connection_samples,
        )
        metrics.gauge(
            "siger_upstream_pending",
            "Exchanges that wait for a connection.",
            ("service",),
            self._pending_samples,
        )

    def __getitem__(self, name: str) -> Cluster:
        return self._clusters[name]

    def endpoint_counts(self) -> dict[str, int]:
        """Service name -> endpoints now in its table."""
        return {name: len(cluster.endpoints) for name, cluster in self._clusters.items()}

    def available(self, name: str) -> bool | None:
        """Whether a service has an endpoint that is chosen from; None: there is no such service."""
        cluster = self._clusters.get(name)
        return None if cluster is None else any(one.available for one in cluster.endpoints)

    def speaking_http2(self) -> list[Cluster]:
        """Those that could be services of gRPC."""
        return [one for one in self._clusters.values() if one.speaks_http2]

    def describe(self) -> dict[str, list[dict[str, object]]]:
        """Service name -> the state of each of its endpoints."""
        return {
            name: [
                {
                    "address": one.address,
                    "weight": one.weight,
                    "healthy": one.healthy,
                    "ejected": one.ejected,
                    "active": one.active,
                    "connections": one.pool.idle + one.pool.busy,
                    "pending": one.pool.pending,
                }
                for one in cluster.endpoints
            ]
            for name, cluster in self._clusters.items()
        }

    def unhealthy(self) -> tuple[str, ...]:
        """Services that have endpoints, none of which passes its health checks."""
        return tuple(
            name
            for name, cluster in self._clusters.items()
            if cluster.endpoints and not any(one.healthy for one in cluster.endpoints)
        )

    def configure(self, services: Mapping[str, ServiceConfig]) -> None:
        """Makes ``services`` the whole set; clusters that stay the same are kept."""
        clusters = {}
        for name, config in services.items():
            cluster = self._clusters.get(name)
            if cluster is None or cluster.config != config:
                cluster = Cluster(name, config, self._metrics.services[name])
                if config.consul:
                    cluster.update(self._discovered.get(config.consul, ()))
            clusters[name] = cluster
        gone = [c for name, c in self._clusters.items() if clusters.get(name) is not c]
        self._clusters = clusters
        self._share_out()
        for cluster in gone:
            cluster.retire()
        # Tables that nobody keeps up to date are forgotten.
        used = {cluster.config.consul for cluster in clusters.values()}
        self._discovered = {name: e for name, e in self._discovered.items() if name in used}

    def _share_out(self) -> None:
        """Which clusters a tick is for: of 1,000 idle ones, it should touch few."""
        self._ticking = [one for one in self._clusters.values() if one.ticks]
        self._turns = [
            [
                one
                for number, one in enumerate(self._clusters.values())
                if number % TURNS == turn or one.config.pool.idle_timeout < HASTY
            ]
            for turn in range(TURNS)
        ]

    def publish(self, consul_name: str, endpoints: Sequence[EndpointSpec]) -> None:
        """Discovery's whole table of one service."""
        self._discovered[consul_name] = endpoints
        for cluster in self._clusters.values():
            if cluster.config.consul == consul_name:
                cluster.update(endpoints)

    def reload_tls(self) -> None:
        """Reads the certificates for connections to services anew."""
        for cluster in self._clusters.values():
            for tls in cluster.tls.values():
                tls.reload()

    def tick(self, now: float) -> None:
        """See ``Cluster.tick`` and ``Cluster.tend``."""
        for cluster in self._ticking:
            cluster.tick(now)
        self._turn = (self._turn + 1) % TURNS
        for cluster in self._turns[self._turn]:
            cluster.tend(now)

    async def close(self) -> None:
        for cluster in self._clusters.values():
            await cluster.close()

    def _endpoint_samples(self) -> Samples:
        for name, cluster in self._clusters.items():
            endpoints = cluster.endpoints
            available = sum(one.available for one in endpoints)
            unhealthy = sum(not one.healthy for one in endpoints)
            yield (name, "available"), available
            yield (name, "unhealthy"), unhealthy
            yield (name, "ejected"), len(endpoints) - available - unhealthy

    def _connection_samples(self) -> Samples:
        for name, cluster in self._clusters.items():
            pools = [endpoint.pool for endpoint in cluster.endpoints]
            yield (name, "idle"), sum(pool.idle for pool in pools)
            yield (name, "busy"), sum(pool.busy for pool in pools)

    def _pending_samples(self) -> Samples:
        for name, cluster in self._clusters.items():
            yield (name,), sum(endpoint.pool.pending for endpoint in cluster.endpoints)
