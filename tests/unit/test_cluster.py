"""A cluster whose table is swapped."""

from __future__ import annotations

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster, Endpoint


async def test_endpoints_that_stay_keep_their_connections_and_counters() -> None:
    cluster = Cluster(
        "s", ServiceConfig(endpoints=(EndpointSpec("a:1"), EndpointSpec("b:2"))), ServiceStats()
    )
    kept, gone = cluster.endpoints
    kept.active = 3
    cluster.update((EndpointSpec("a:1", 5), EndpointSpec("c:3")))
    assert cluster.endpoints[0] is kept
    assert (kept.active, kept.weight) == (3, 5)
    assert gone.pool.retired
    assert not kept.pool.retired
    cluster.update(())
    assert cluster.pick(()) is None


async def test_an_ipv6_endpoint_is_dialled_without_brackets() -> None:
    endpoint = Endpoint(EndpointSpec("[::1]:80"), PoolConfig())
    assert (endpoint.pool.host, endpoint.pool.port, endpoint.pool.address) == (
        "::1",
        80,
        "[::1]:80",
    )


async def test_retries_leave_the_turns_as_they_are() -> None:
    cluster = Cluster(
        "s", ServiceConfig(endpoints=(EndpointSpec("a:1"), EndpointSpec("b:2"))), ServiceStats()
    )
    first = cluster.pick(())
    assert first is not None
    assert cluster.pick((first,)) is not first
    assert cluster.pick(()) is not first
    assert cluster.pick(()) is first


async def test_every_observer_is_told_in_the_order_in_which_they_came() -> None:
    cluster = Cluster("s", ServiceConfig(endpoints=(EndpointSpec("a:1"),)), ServiceStats())
    assert cluster.observe is None
    told: list[tuple[int, Endpoint, int, float]] = []
    for number in range(3):

        def observer(endpoint: Endpoint, status: int, seconds: float, number: int = number) -> None:
            told.append((number, endpoint, status, seconds))

        cluster.add_observer(observer)
    assert cluster.observe is not None
    cluster.observe(cluster.endpoints[0], 200, 0.5)
    assert told == [(number, cluster.endpoints[0], 200, 0.5) for number in range(3)]
