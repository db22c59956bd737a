"""Slow start: who warms up, how fast, and what that does to a cluster. Time is given."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import (
    EndpointSpec,
    HealthCheckConfig,
    PoolConfig,
    ServiceConfig,
)
from siger_gateway.http.message import Request
from siger_gateway.telemetry.metrics import Metrics, ServiceStats
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.clusters import Clusters
from siger_gateway.upstream.slow_start import COLD, STEP, WARM, SlowStart

ASKED = Request(b"GET", b"/", [], True)

A, B, C, D = (EndpointSpec(f"{name}:80", 3) for name in "abcd")


def cluster(*specs: EndpointSpec, slow_start: float = 30.0) -> Cluster:
    return Cluster("s", ServiceConfig(endpoints=specs, slow_start=slow_start), ServiceStats())


def warmth(cluster: Cluster) -> dict[str, int]:
    return {endpoint.address[0]: endpoint.warmth for endpoint in cluster.endpoints}


def shares(cluster: Cluster) -> dict[str, int]:
    """Of 1000 requests."""
    picked = [cluster.pick(ASKED, "", ()) for _ in range(1000)]
    return Counter(one.address[0] for one in picked if one is not None)


async def test_endpoints_of_a_first_table_have_their_weight_at_once() -> None:
    assert warmth(cluster(A, B)) == {"a": WARM, "b": WARM}
    discovered = cluster()
    discovered.update((A, B))
    assert warmth(discovered) == {"a": WARM, "b": WARM}


async def test_one_that_joins_begins_with_a_tenth_and_grows_to_its_whole_weight() -> None:
    table = cluster(A, B)
    table.update((A, B, C))
    assert shares(table)["c"] == pytest.approx(1000 * 0.1 / 2.1, abs=5)
    table.tick(1000.0)  # the first look: from here on it counts
    table.tick(1003.0)
    assert shares(table)["c"] == pytest.approx(1000 * 0.1 / 2.1, abs=5)
    table.tick(1015.0)
    assert shares(table)["c"] == pytest.approx(1000 * 0.5 / 2.5, abs=5)
    table.tick(1029.9)
    assert warmth(table)["c"] < WARM
    table.tick(1031.0)
    assert warmth(table) == {"a": WARM, "b": WARM, "c": WARM}
    assert shares(table)["c"] == pytest.approx(333, abs=5)


async def test_without_slow_start_one_that_joins_has_its_weight_at_once() -> None:
    table = cluster(A, B, slow_start=0.0)
    table.update((A, B, C))
    assert warmth(table) == {"a": WARM, "b": WARM, "c": WARM}
    assert shares(table)["c"] == pytest.approx(333, abs=5)


async def test_a_table_of_none_but_new_endpoints_is_not_warmed() -> None:
    table = cluster(A, B)
    table.update((C, D))
    assert warmth(table) == {"c": WARM, "d": WARM}
    table.update(())
    table.update((A,))
    assert warmth(table) == {"a": WARM}


async def test_an_instance_that_discovery_adds_warms_up_and_the_first_ones_do_not() -> None:
    clusters = Clusters(Metrics())
    clusters.configure({"s": ServiceConfig(consul="s", slow_start=30.0)})
    clusters.publish("s", (A, B))
    clusters.publish("s", (A, B, C))
    assert warmth(clusters["s"]) == {"a": WARM, "b": WARM, "c": COLD}
    clusters.tick(1000.0)
    clusters.tick(1031.0)
    assert warmth(clusters["s"])["c"] == WARM


async def test_one_that_comes_back_from_failure_warms_up() -> None:
    table = cluster(A, B)
    b = table.endpoints[1]
    for healthy in (False, True):
        b.healthy = healthy
        table.rebalance()
    assert warmth(table) == {"a": WARM, "b": COLD}
    table.tick(1000.0)
    table.tick(1015.0)
    assert warmth(table) == {"a": WARM, "b": WARM // 2}
    for ejected in (True, False):  # again, from the beginning
        b.ejected = ejected
        table.rebalance()
    assert warmth(table) == {"a": WARM, "b": COLD}


async def test_those_used_in_a_panic_are_not_cold_and_nobody_who_recovers_in_one_is() -> None:
    table = Cluster(
        "s",
        ServiceConfig(
            endpoints=(A, B, C, D),
            slow_start=30.0,
            health_check=HealthCheckConfig(panic_threshold=0.5),
        ),
        ServiceStats(),
    )
    for one in table.endpoints[1:]:
        one.healthy = False
        table.rebalance()  # the last one makes a panic
    assert set(warmth(table).values()) == {WARM}
    b, c, _ = table.endpoints[1:]
    b.healthy = True  # ends it; b has had its full share all the time
    table.rebalance()
    assert set(warmth(table).values()) == {WARM}
    c.healthy = True
    table.rebalance()
    assert warmth(table) == {"a": WARM, "b": WARM, "c": COLD, "d": WARM}


async def test_one_that_fails_while_warming_does_not_stay_cold_for_the_last_resort() -> None:
    table = cluster(A)
    table.update((A, B))
    for one in table.endpoints:
        one.healthy = False
        table.rebalance()
    assert warmth(table) == {"a": WARM, "b": WARM}
    assert shares(table)["b"] == 500
    for one in table.endpoints:  # the first one back has nobody to join
        one.healthy = True
        table.rebalance()
    assert warmth(table) == {"a": WARM, "b": COLD}


async def test_a_weight_that_changes_while_warming_counts_at_once_and_warming_goes_on() -> None:
    table = cluster(A)
    table.update((A, B))
    table.tick(1000.0)
    table.tick(1015.0)
    table.update((A, EndpointSpec("b:80", 9)))
    b = table.endpoints[1]
    assert (b.weight, b.warmth) == (9, WARM // 2)
    assert shares(table)["b"] == pytest.approx(600, abs=5)


async def test_when_nothing_warms_the_balancer_is_left_alone() -> None:
    table = cluster(A)
    table.update((A, B))
    for second in range(40):
        table.tick(1000.0 + second)
    balancer = table._balancer
    table.tick(2000.0)
    assert table._balancer is balancer
    assert warmth(table) == {"a": WARM, "b": WARM}


@given(
    st.floats(0.5, 120.0),
    st.lists(st.floats(0.01, 20.0), min_size=1, max_size=60),
)
async def test_warmth_follows_the_time_and_never_falls(seconds: float, steps: list[float]) -> None:
    old, new = (Endpoint(spec, PoolConfig()) for spec in (A, B))
    slow_start = SlowStart(seconds)
    slow_start.follow({old})
    slow_start.follow({old, new})
    now, since, last = 50.0, 50.0, COLD
    slow_start.advance(now)
    looked = now
    for step in steps:
        now += step
        changed = slow_start.advance(now)
        assert changed == (new.warmth != last)
        assert new.warmth >= last
        if changed:
            assert now - looked >= STEP
        if now - looked >= STEP:
            looked = now
            due = min((now - since) / seconds, 1.0) * WARM
            assert new.warmth == max(COLD, int(due))
        last = new.warmth
        assert new.effective_weight == new.weight * new.warmth
    assert old.warmth == WARM
    assert len(slow_start) == (new.warmth < WARM)
