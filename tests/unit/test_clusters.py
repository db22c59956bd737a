"""What a tick touches when there are many services."""

from __future__ import annotations

from collections import Counter

import pytest

from siger_gateway.config.schema import EndpointSpec, OutlierConfig, PoolConfig, ServiceConfig
from siger_gateway.telemetry.metrics import Metrics
from siger_gateway.upstream.cluster import Cluster
from siger_gateway.upstream.clusters import HASTY, TURNS, Clusters
from siger_gateway.upstream.pool import Pool


def service(name: str, **more: object) -> ServiceConfig:
    return ServiceConfig(endpoints=(EndpointSpec(f"{name}:1"),), **more)  # type: ignore[arg-type]


@pytest.fixture
def tended(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often stale connections were looked for, by address."""
    seen: Counter[str] = Counter()
    monkeypatch.setattr(Pool, "close_stale", lambda pool, now: seen.update([pool.address]))
    return seen


async def test_each_tick_tends_a_part_of_the_clusters_and_a_second_all_of_them_once(
    tended: Counter[str],
) -> None:
    clusters = Clusters(Metrics())
    clusters.configure({f"s{n}": service(f"s{n}") for n in range(100)})
    for tick in range(1, TURNS + 1):
        clusters.tick(float(tick))
        assert tended.total() == tick * 100 / TURNS
    assert set(tended.values()) == {1}


async def test_where_connections_grow_old_soon_every_tick_looks(tended: Counter[str]) -> None:
    clusters = Clusters(Metrics())
    hasty = PoolConfig(idle_timeout=HASTY / 2)
    clusters.configure({"hasty": service("hasty", pool=hasty), "other": service("other")})
    for tick in range(TURNS):
        clusters.tick(float(tick))
    assert tended == {"hasty:1": TURNS, "other:1": 1}


async def test_only_clusters_in_which_something_may_happen_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ticked: list[str] = []
    monkeypatch.setattr(Cluster, "tick", lambda cluster, now: ticked.append(cluster.name))
    clusters = Clusters(Metrics())
    watched = {
        "ejects": service("a", outlier=OutlierConfig(errors=5)),
        "warms": service("b", slow_start=30.0),
    }
    clusters.configure({**{f"s{n}": service(f"s{n}") for n in range(50)}, **watched})
    clusters.tick(1.0)
    assert ticked == ["ejects", "warms"]
    clusters.configure({"s": service("s")})
    clusters.tick(2.0)
    assert ticked == ["ejects", "warms"]
