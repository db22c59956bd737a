"""Balancing over endpoints, and a cluster whose table is swapped."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.http1.message import Request
from siger_gateway.proxy.retry import may_retry
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.balancer import (
    MAX_SCHEDULE,
    POLICIES,
    LeastConnections,
    RoundRobin,
    smooth_schedule,
)
from siger_gateway.upstream.cluster import Cluster, Endpoint


async def endpoints(*weights: int) -> list[Endpoint]:
    """A coroutine, for pools belong to an event loop."""
    return [
        Endpoint(EndpointSpec(f"127.0.0.1:{9000 + number}", weight), PoolConfig())
        for number, weight in enumerate(weights)
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
async def test_a_round_gives_every_endpoint_its_share(weights: list[int]) -> None:
    table = await endpoints(*weights)
    schedule = smooth_schedule(table)
    seen = Counter(one.address for one in schedule)
    for endpoint in table:
        assert seen[endpoint.address] * sum(weights) == endpoint.weight * len(schedule)


async def test_a_heavy_endpoint_is_spread_over_the_round() -> None:
    heavy, light, other = await endpoints(5, 1, 1)
    schedule = smooth_schedule([heavy, light, other])
    assert schedule[0] is schedule[-1] is heavy
    assert Counter(schedule) == {heavy: 5, light: 1, other: 1}


async def test_a_schedule_is_bounded_whatever_the_weights() -> None:
    table = await endpoints(*([997, 1000] * 100))
    assert len(smooth_schedule(table)) <= MAX_SCHEDULE + len(table)


@pytest.mark.parametrize("policy", POLICIES)
async def test_an_endpoint_that_has_failed_is_not_picked_again(policy: str) -> None:
    table = await endpoints(1, 2, 3)
    balancer = POLICIES[policy](table)
    for _ in range(50):
        assert balancer.pick(table[:2]) is table[2]
    assert balancer.pick(table) is None
    assert POLICIES[policy](()).pick(()) is None


async def test_retries_leave_the_turns_as_they_are() -> None:
    table = await endpoints(1, 1)
    balancer = RoundRobin(table)
    first = balancer.pick(())
    assert first is not None
    assert balancer.pick((first,)) is not first
    assert balancer.pick(()) is not first
    assert balancer.pick(()) is first


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=6))
async def test_least_connections_picks_the_least_loaded(loads: list[tuple[int, int]]) -> None:
    table = await endpoints(*(weight for _, weight in loads))
    for endpoint, (active, _) in zip(table, loads, strict=True):
        endpoint.active = active
    picked = LeastConnections(table).pick(())
    assert picked is not None
    assert picked.active / picked.weight == min(active / weight for active, weight in loads)


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


def request(method: bytes, *, body: bool = False) -> Request:
    made = Request(method, b"/", [], True)
    made.content_length = None if body else 0
    return made


@pytest.mark.parametrize(
    ("method", "body", "reason", "reused", "may"),
    [
        (b"POST", True, "connect_refused", False, True),
        (b"POST", True, "connect_timeout", False, True),
        (b"POST", True, "connect_failed", False, True),
        (b"POST", True, "pending_overflow", False, True),
        (b"GET", False, "upstream_reset", True, True),
        (b"DELETE", False, "upstream_reset", True, True),
        (b"GET", False, "upstream_reset", False, False),
        (b"POST", False, "upstream_reset", True, False),
        (b"PATCH", False, "upstream_reset", True, False),
        (b"PUT", True, "upstream_reset", True, False),
        (b"GET", False, "upstream_protocol", True, False),
        (b"GET", False, "response_timeout", True, False),
    ],
)
def test_what_may_be_repeated(
    method: bytes, body: bool, reason: str, reused: bool, may: bool
) -> None:
    assert may_retry(request(method, body=body), reason, reused=reused) is may
