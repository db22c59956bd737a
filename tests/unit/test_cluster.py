"""A cluster whose table is swapped."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import (
    EndpointSpec,
    HealthCheckConfig,
    OutlierConfig,
    PoolConfig,
    ServiceConfig,
)
from siger_gateway.http.message import Request
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster, Endpoint
from tests.running import BOUND

ASKED = Request(b"GET", b"/", [], True)


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
    assert cluster.pick(ASKED, "", ()) is None


async def test_an_ipv6_endpoint_is_dialled_without_brackets() -> None:
    dialer = Endpoint(EndpointSpec("[::1]:80"), PoolConfig()).pool.dialer
    assert (dialer.host, dialer.port, dialer.address) == ("::1", 80, "[::1]:80")


async def test_retries_leave_the_turns_as_they_are() -> None:
    cluster = Cluster(
        "s", ServiceConfig(endpoints=(EndpointSpec("a:1"), EndpointSpec("b:2"))), ServiceStats()
    )
    first = cluster.pick(ASKED, "", ())
    assert first is not None
    assert cluster.pick(ASKED, "", (first,)) is not first
    assert cluster.pick(ASKED, "", ()) is not first
    assert cluster.pick(ASKED, "", ()) is first


def cluster_of(count: int, **config: object) -> Cluster:
    endpoints = tuple(EndpointSpec(f"e:{port}") for port in range(1, count + 1))
    return Cluster("s", ServiceConfig(endpoints=endpoints, **config), ServiceStats())  # type: ignore[arg-type]


def picked(cluster: Cluster) -> str:
    """The state of all endpoints that get requests, by port: ``+`` well, ``-`` unhealthy, ``x``
    ejected, ``#`` both; a dot for one that gets none."""
    cluster.rebalance()
    seen = {cluster.pick(ASKED, "", ()) for _ in range(10 * len(cluster.endpoints))}
    marks = {(True, False): "+", (False, False): "-", (True, True): "x", (False, True): "#"}
    return "".join(
        marks[one.healthy, one.ejected] if one in seen else "." for one in cluster.endpoints
    )


def set_states(cluster: Cluster, states: str) -> None:
    for endpoint, state in zip(cluster.endpoints, states, strict=True):
        endpoint.healthy = state in "+x"
        endpoint.ejected = state in "x#"


@pytest.mark.parametrize(
    ("states", "threshold", "used"),
    [
        ("++++", 0.0, "++++"),
        ("+-x#", 0.0, "+..."),
        ("---+", 0.0, "...+"),
        ("----", 0.0, "----"),  # panic: all rather than none
        ("--##", 0.0, "--.."),  # in a panic too, those not ejected
        ("####", 0.0, "####"),
        ("--xx", 0.0, "..xx"),  # rather an ejected one than an unhealthy one
        ("++--", 0.5, "++.."),
        ("+---", 0.5, "+---"),
        ("+x--", 0.75, "+.--"),
    ],
)
async def test_who_gets_requests(states: str, threshold: float, used: str) -> None:
    cluster = cluster_of(4, health_check=HealthCheckConfig(panic_threshold=threshold))
    set_states(cluster, states)
    assert picked(cluster) == used


@given(st.lists(st.sampled_from("+-x#"), min_size=1, max_size=8), st.floats(0.0, 1.0))
async def test_there_is_always_somebody_to_pick(states: list[str], threshold: float) -> None:
    cluster = cluster_of(len(states), health_check=HealthCheckConfig(panic_threshold=threshold))
    set_states(cluster, "".join(states))
    assert picked(cluster).strip(".")


async def test_a_panic_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cluster = cluster_of(2)
    for states in ("--", "--", "-x", "++"):
        set_states(cluster, states)
        cluster.rebalance()
    assert [one.message for one in caplog.records] == [
        "too few healthy endpoints: all are used",
        "enough healthy endpoints again",
    ]


async def test_an_ejected_endpoint_gets_no_requests_from_the_next_tick_on() -> None:
    cluster = cluster_of(2, outlier=OutlierConfig(errors=2, eject_for=30.0))
    now = asyncio.get_running_loop().time()
    cluster.tick(now)
    assert cluster.outlier is not None
    bad, good = cluster.endpoints
    cluster.outlier.attempt_ended(bad, 0)
    cluster.outlier.attempt_ended(bad, 0)
    cluster.tick(now + 0.1)
    assert {cluster.pick(ASKED, "", ()) for _ in range(10)} == {good}
    cluster.update((EndpointSpec("e:1", 2), EndpointSpec("e:2"), EndpointSpec("e:3")))
    assert bad in cluster.endpoints
    assert bad not in {cluster.pick(ASKED, "", ()) for _ in range(20)}  # discovery resets nothing
    cluster.tick(now + 30.2)
    assert bad in {cluster.pick(ASKED, "", ()) for _ in range(20)}


async def test_what_is_off_is_not_there() -> None:
    assert cluster_of(2).outlier is None
    assert cluster_of(2)._checker is None


async def test_retries_are_a_fifth_of_what_is_active_and_three_at_least() -> None:
    cluster = Cluster("s", ServiceConfig(endpoints=(EndpointSpec("a:1"),)), ServiceStats())
    (endpoint,) = cluster.endpoints
    for active, allowed in ((0, 3), (1, 3), (15, 3), (16, 4), (50, 10), (51, 11)):
        endpoint.active = active
        assert [cluster.begin_retry() for _ in range(20)].count(True) == allowed
        assert not cluster.begin_retry()
        cluster.retrying -= allowed


async def test_an_address_that_changes_its_protocol_is_another_endpoint() -> None:
    cluster = Cluster("s", ServiceConfig(consul="s"), ServiceStats())
    cluster.update((EndpointSpec("a:1"), EndpointSpec("b:1", 1, "https")))
    plain, secure = cluster.endpoints
    assert plain.pool.dialer.tls is None
    assert secure.pool.dialer.tls is not None
    cluster.update((EndpointSpec("a:1", 1, "https"), EndpointSpec("b:1", 2, "https")))
    assert cluster.endpoints[0] is not plain
    assert plain.pool.retired
    assert cluster.endpoints[1] is secure
    assert cluster.endpoints[0].pool.dialer.tls is secure.pool.dialer.tls  # one context for all


async def test_https_of_the_service_holds_where_an_endpoint_says_nothing() -> None:
    cluster = Cluster("s", ServiceConfig(consul="s", protocol="https"), ServiceStats())
    cluster.update((EndpointSpec("a:1"), EndpointSpec("b:1", 1, "http")))
    assert [one.pool.dialer.tls is not None for one in cluster.endpoints] == [True, False]


async def test_a_connection_that_comes_too_late_is_not_counted_off_twice() -> None:
    cluster = Cluster("s", ServiceConfig(endpoints=(EndpointSpec("a:1"),)), ServiceStats())
    pool = cluster.endpoints[0].pool
    connection = UpstreamConnection(pool)
    connection.discard()
    connection.connection_lost(None)
    assert pool.busy == 0


class Accepted(asyncio.Protocol):
    """The service's end of a connection."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


class Waiting:
    """An exchange that may wait for a connection."""

    def __init__(self) -> None:
        self.told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.connection: UpstreamConnection | None = None

    def on_connection(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        self.told.set_result("connected")

    def on_no_connection(self, reason: str, detail: str) -> None:
        self.told.set_result(reason)


@pytest.mark.parametrize("answers", [True, False])
async def test_who_has_given_up_hears_no_more_of_that_connection(answers: bool) -> None:
    accepted = Accepted()
    server = await asyncio.get_running_loop().create_server(lambda: accepted, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if not answers:
        server.close()
    config = ServiceConfig(endpoints=(EndpointSpec(address),), pool=PoolConfig(max_connections=1))
    cluster = Cluster("s", config, ServiceStats())
    pool = cluster.endpoints[0].pool
    gone, there = Waiting(), Waiting()
    assert pool.wait(gone)
    assert pool.wait(there)
    pool.give_up(gone)
    async with asyncio.timeout(BOUND):
        assert await there.told == ("connected" if answers else "connect_refused")
    assert not gone.told.done()
    assert pool.busy == int(answers)
    if there.connection is not None:  # it is busy, so the cluster leaves it alone
        there.connection.abort()
        async with asyncio.timeout(BOUND):
            await accepted.over.wait()
    await cluster.close()
    server.close()


async def test_a_closed_connection_never_comes_to_rest_in_the_pool() -> None:
    cluster = Cluster("s", ServiceConfig(endpoints=(EndpointSpec("a:1"),)), ServiceStats())
    pool = cluster.endpoints[0].pool
    connection = UpstreamConnection(pool)
    connection.discard()
    pool.release(connection)
    assert (pool.idle, pool.take()) == (0, None)
    pool.close_stale(1e12)
