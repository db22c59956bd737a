"""Peak EWMA: how an endpoint's latency is remembered, and what an exchange on it costs."""

from __future__ import annotations

import random
from collections import Counter
from math import exp, log
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.http.message import Request
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.balancer import POLICIES
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.ewma import DECAY, FAILURE, UNKNOWN, cost_at, observe, record

ASKED = Request(b"GET", b"/", [], True)


async def endpoint(port: int = 1, weight: int = 1) -> Endpoint:
    return Endpoint(EndpointSpec(f"a:{port}", weight), PoolConfig())


async def test_a_peak_counts_at_once_and_is_forgotten_slowly() -> None:
    one = await endpoint()
    record(one, 200, 0.01, 100.0)
    assert one.latency == 0.01
    record(one, 200, 2.0, 100.1)
    assert one.latency == 2.0
    record(one, 200, 0.01, 100.2)
    assert 1.9 < one.latency < 2.0
    for tenth in range(600):
        record(one, 200, 0.01, 100.3 + tenth / 10)
    assert 0.01 <= one.latency < 0.02


async def test_an_answer_counts_the_more_the_older_the_last_one_is() -> None:
    one = await endpoint()
    record(one, 200, 2.0, 100.0)
    record(one, 200, 1.0, 100.0 + DECAY * log(2))  # half of the old value is left
    assert one.latency == pytest.approx(1.5)
    record(one, 200, 0.5, 10_000.0)
    assert one.latency == pytest.approx(0.5)


async def test_time_alone_lowers_what_an_endpoint_costs() -> None:
    one = await endpoint()
    record(one, 200, 2.0, 100.0)
    assert cost_at(one, 100.0 + DECAY) == pytest.approx(cost_at(one, 100.0) / exp(1))
    assert one.latency == 2.0  # looking changes nothing


@given(st.floats(0.001, 10), st.integers(0, 50), st.integers(1, 1000))
async def test_the_cost_is_latency_times_exchanges_for_the_weight(
    seconds: float, active: int, weight: int
) -> None:
    one, plain = await endpoint(1, weight), await endpoint(2)
    record(one, 200, seconds, 5.0)
    record(plain, 200, seconds, 5.0)
    one.active = active
    assert cost_at(one, 5.0) == pytest.approx(cost_at(plain, 5.0) * (active + 1) / weight)


async def test_an_unknown_endpoint_is_tried_by_one_exchange_first() -> None:
    known, new = await endpoint(1), await endpoint(2)
    record(known, 200, 1.0, 5.0)
    assert cost_at(new, 5.0) < cost_at(known, 5.0)
    new.active = 1
    assert cost_at(new, 5.0) > cost_at(known, 5.0)
    assert cost_at(new, 5.0) * new.effective_weight == UNKNOWN


@pytest.mark.parametrize("status", [0, 502, 503, 504])
async def test_a_quick_failure_is_no_quick_answer(status: int) -> None:
    good, bad = await endpoint(1), await endpoint(2)
    record(good, 200, 0.2, 5.0)
    record(bad, status, 0.001, 5.0)
    assert bad.latency == FAILURE
    assert cost_at(bad, 5.0) > cost_at(good, 5.0)
    record(bad, status, 30.0, 6.0)  # a timeout counts for what it took
    assert bad.latency == 30.0


@pytest.mark.parametrize("status", [200, 304, 404, 500])
async def test_other_answers_count_by_their_time(status: int) -> None:
    one = await endpoint()
    record(one, status, 0.001, 5.0)
    assert one.latency == 0.001


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 60)), max_size=30))
async def test_the_average_stays_within_what_was_seen(steps: list[tuple[float, float]]) -> None:
    one, now = await endpoint(), 0.0
    for pause, seconds in steps:
        now += pause
        record(one, 200, seconds, now)
        assert one.latency >= seconds * (1 - 1e-9)
        assert one.latency <= max(each for _, each in steps) * (1 + 1e-9)


async def test_the_slow_endpoint_is_avoided_and_the_failing_one_too() -> None:
    table = [await endpoint(port) for port in range(5)]
    balancer = POLICIES["ewma"](table)
    slow, failing = table[0], table[1]
    for one in table:
        observe(one, 200, 1.0 if one is slow else 0.01)
    observe(failing, 0, 0.0001)
    random.seed(1)
    seen = Counter(balancer.pick(()) for _ in range(1000))
    # Only a draw of these two leaves one of them.
    assert seen[slow] + seen[failing] < 150
    assert min(seen[one] for one in table[2:]) > 150


async def test_what_was_learned_survives_a_new_table() -> None:
    cluster = Cluster(
        "s",
        ServiceConfig(endpoints=(EndpointSpec("a:1"), EndpointSpec("b:2")), balance="ewma"),
        ServiceStats(),
    )
    slow, fast = cluster.endpoints
    assert cluster.observe is not None
    cluster.observe(slow, 200, 5.0)
    cluster.observe(fast, 200, 0.01)
    cluster.update((EndpointSpec("b:2"), EndpointSpec("a:1")))
    assert slow.latency_at <= monotonic()
    assert {cluster.pick(ASKED, "", ()) for _ in range(50)} == {fast}


async def test_other_policies_observe_nothing() -> None:
    for policy in set(POLICIES) - {"ewma"}:
        config = ServiceConfig(balance=policy, hash_on="path" if "hash" in policy else "")  # type: ignore[arg-type]
        assert Cluster("s", config, ServiceStats()).observe is None
