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


async def test_retries_are_a_fifth_of_what_is_active_and_three_at_least() -> None:
    cluster = Cluster("s", ServiceConfig(endpoints=(EndpointSpec("a:1"),)), ServiceStats())
    (endpoint,) = cluster.endpoints
    for active, allowed in ((0, 3), (1, 3), (15, 3), (16, 4), (50, 10), (51, 11)):
        endpoint.active = active
        assert [cluster.begin_retry() for _ in range(20)].count(True) == allowed
        assert not cluster.begin_retry()
        cluster.retrying -= allowed
