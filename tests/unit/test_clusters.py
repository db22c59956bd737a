"""What a tick touches when there are many services."""

from __future__ import annotations

from collections import Counter

from siger_gateway.config.schema import EndpointSpec, OutlierConfig, PoolConfig, ServiceConfig
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.clusters import HASTY, TURNS, Clusters


def service(name: str, **more: object) -> ServiceConfig:
    return ServiceConfig(endpoints=(EndpointSpec(f"{name}:1"),), **more)  # type: ignore[arg-type]


def tended(clusters: Clusters, now: float) -> Counter[str]:
    """Where stale connections were looked for at ``now``, by address."""
    endpoints = [one for cluster in clusters._clusters.values() for one in cluster.endpoints]
    return Counter(one.address for one in endpoints if one.pool._now == now)


async def test_each_tick_tends_a_part_of_the_clusters_and_a_second_all_of_them_once() -> None:
    clusters = Clusters(Metrics())
    clusters.configure({f"s{n}": service(f"s{n}") for n in range(100)})
    seen: Counter[str] = Counter()
    for tick in range(1, TURNS + 1):
        clusters.tick(float(tick))
        seen += tended(clusters, float(tick))
        assert seen.total() == tick * 100 / TURNS
    assert set(seen.values()) == {1}


async def test_where_connections_grow_old_soon_every_tick_looks() -> None:
    clusters = Clusters(Metrics())
    hasty = PoolConfig(idle_timeout=HASTY / 2)
    clusters.configure({"hasty": service("hasty", pool=hasty), "other": service("other")})
    seen: Counter[str] = Counter()
    for tick in range(TURNS):
        clusters.tick(float(tick))
        seen += tended(clusters, float(tick))
    assert seen == {"hasty:1": TURNS, "other:1": 1}


async def test_only_clusters_in_which_something_may_happen_tick() -> None:
    clusters = Clusters(Metrics())
    watched = {
        "ejects": service("a", outlier=OutlierConfig(errors=5)),
        "warms": service("b", slow_start=30.0),
    }
    clusters.configure({**{f"s{n}": service(f"s{n}") for n in range(50)}, **watched})
    assert [one.name for one in clusters._ticking] == ["ejects", "warms"]
    clusters.configure({"s": service("s")})
    assert not clusters._ticking
