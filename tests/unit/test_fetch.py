"""One question to a service: how it is put, when it is put again, and who is told what came of it.

Over real sockets, for most of what can go wrong is in them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.errors import GatewayError
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.fetch import Fetched, fetch
from tests.conftest import Services
from tests.running import BOUND, Script, Served, Upstream, answer_ok, eventually

MOST = 1000
"""Bytes of a body that are taken."""


class Asked:
    """A cluster of such services, and what those who watch it are told."""

    def __init__(self, upstreams: list[Upstream], config: ServiceConfig) -> None:
        self.upstreams = upstreams
        self.cluster = Cluster("s", config, ServiceStats())
        self.cluster.outlier = self  # type: ignore[assignment]
        self.cluster.observe = self.observe
        self.ended: list[int] = []
        self.observed: list[int] = []

    def attempt_ended(self, endpoint: Endpoint, status: int) -> None:
        self.ended.append(status)

    def observe(self, endpoint: Endpoint, status: int, seconds: float) -> None:
        assert 0.0 <= seconds < BOUND
        self.observed.append(status)

    async def fetch(self, timeout: float = BOUND, only: Endpoint | None = None) -> Fetched:
        headers = [(b"x-a", b"1")]
        return await fetch(self.cluster, b"/verify", headers, timeout, MOST, endpoint=only)

    async def failure(self, timeout: float = BOUND) -> str:
        with pytest.raises(GatewayError) as raised:
            await self.fetch(timeout)
        return raised.value.reason

    @property
    def requests(self) -> int:
        return sum(len(upstream.served) for upstream in self.upstreams)

    @property
    def connections(self) -> int:
        return sum(upstream.connections for upstream in self.upstreams)

    def at_rest(self) -> bool:
        """Whether nothing is counted as under way, and nobody waits."""
        return all(
            (one.active, one.pool.busy, one.pool.pending) == (0, 0, 0)
            for one in self.cluster.endpoints
        )

    async def all_cut(self) -> bool:
        return all(upstream.closed == upstream.connections for upstream in self.upstreams)


Asking = Callable[..., contextlib.AbstractAsyncContextManager[Asked]]


@pytest.fixture
def asking(services: Services) -> Asking:
    """``async with asking(script, script)`` starts a service with so many endpoints."""

    @contextlib.asynccontextmanager
    async def start(
        *scripts: Script, pool: PoolConfig | None = None, host_header: str = "preserve"
    ) -> AsyncIterator[Asked]:
        upstreams = await services(*scripts)
        endpoints = tuple(EndpointSpec(upstream.address) for upstream in upstreams)
        config = ServiceConfig(
            endpoints=endpoints, pool=pool or PoolConfig(), host_header=host_header
        )
        asked = Asked(upstreams, config)
        yield asked
        await asked.cluster.close()

    return start


async def breaks_off(upstream: Upstream, served: Served) -> None:
    served.writer.transport.abort()


async def says_nothing(upstream: Upstream, served: Served) -> None:
    await served.reader.read()


def says(*pieces: bytes) -> Script:
    """Sends this and closes."""

    async def script(upstream: Upstream, served: Served) -> None:
        for piece in pieces:
            await served.send(piece)
        served.writer.close()
        raise EOFError

    return script


class Dying:
    """A service that answers a request if it is the first on its connection, and never another."""

    def __init__(self, then: Script = breaks_off) -> None:
        self._then = then
        self._known: set[object] = set()

    async def __call__(self, upstream: Upstream, served: Served) -> None:
        if served.writer in self._known:
            await self._then(upstream, served)
        else:
            self._known.add(served.writer)
            await served.ok()


async def test_the_whole_answer_comes_back(asking: Asking) -> None:
    async def answer(upstream: Upstream, served: Served) -> None:
        await served.ok(b"body", b"X-Roles: a", b"X-Roles: b")

    async with asking(answer) as asked:
        fetched = await asked.fetch()
        assert (fetched.status, fetched.body) == (200, b"body")
        assert fetched.headers == [
            (b"content-length", b"4"),
            (b"x-roles", b"a"),
            (b"x-roles", b"b"),
        ]
        assert fetched.fields == {b"content-length": b"4", b"x-roles": b"b"}
        (served,) = asked.upstreams[0].served
        assert served.line == "GET /verify HTTP/1.1"
        assert served.fields == [("host", asked.upstreams[0].address), ("x-a", "1")]
        assert asked.ended == asked.observed == [200]
        assert asked.cluster.stats.outcomes == {"2xx": 1}
        assert sum(asked.cluster.stats.duration.counts) == 1
        assert asked.at_rest()


async def test_an_answer_does_not_show_what_is_in_it() -> None:
    fetched = Fetched(200, [(b"set-cookie", b"s3cret")], {b"set-cookie": b"s3cret"}, b"s3cret")
    assert repr(fetched) == "Fetched(status=200)"


@pytest.mark.parametrize(("host_header", "host"), [("endpoint", ""), ("auth.test", "auth.test")])
async def test_the_host_is_what_the_service_wants(
    asking: Asking, host_header: str, host: str
) -> None:
    async with asking(answer_ok, host_header=host_header) as asked:
        await asked.fetch()
        (served,) = asked.upstreams[0].served
        assert served.field("host") == [host or asked.upstreams[0].address]


async def test_one_connection_serves_one_question_after_another(asking: Asking) -> None:
    async with asking(answer_ok) as asked:
        for _ in range(5):
            await asked.fetch()
        assert (asked.requests, asked.connections) == (5, 1)
        assert asked.cluster.endpoints[0].pool.idle == 1
        assert asked.at_rest()


async def test_an_answer_that_only_the_end_of_the_connection_ends_is_whole(asking: Asking) -> None:
    async with asking(says(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")) as asked:
        assert (await asked.fetch()).body == b"abcd"
        assert asked.at_rest()


async def test_what_comes_before_the_answer_is_not_the_answer(asking: Asking) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with asking(says(early, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")) as asked:
        assert (await asked.fetch()).status == 403
        assert asked.ended == [403]


async def test_a_connection_that_died_at_rest_costs_one_more_attempt_and_nobody_is_blamed(
    asking: Asking,
) -> None:
    async with asking(Dying()) as asked:
        for _ in range(5):
            assert (await asked.fetch()).status == 200
        assert (asked.requests, asked.connections) == (9, 5)
        assert asked.ended == [200] * 5
        assert asked.cluster.stats.retries == {"upstream_reset": 4}
        assert asked.at_rest()


async def test_after_a_dead_connection_its_idle_neighbours_are_not_trusted(asking: Asking) -> None:
    arrived = 0
    together = asyncio.Event()

    async def both(upstream: Upstream, served: Served) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 2:
            together.set()
        if arrived > 2 and len(upstream.served) < 4:
            await breaks_off(upstream, served)
            return
        await together.wait()
        await served.ok()

    async with asking(both) as asked:
        await asyncio.gather(asked.fetch(), asked.fetch())
        assert asked.cluster.endpoints[0].pool.idle == 2
        assert (await asked.fetch()).status == 200
        assert asked.connections == 3


async def test_a_dead_connection_is_an_excuse_only_once(asking: Asking) -> None:
    async def first_only(upstream: Upstream, served: Served) -> None:
        await (answer_ok if len(upstream.served) == 1 else breaks_off)(upstream, served)

    async with asking(first_only) as asked:
        await asked.fetch()
        assert await asked.failure() == "upstream_reset"
        assert asked.requests == 3
        assert asked.ended == [200, 0]  # the one on the fresh connection


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
)
async def test_half_an_answer_on_a_used_connection_is_no_dead_connection(
    asking: Asking, beginning: bytes
) -> None:
    async with asking(Dying(then=says(beginning))) as asked:
        await asked.fetch()
        assert await asked.failure() == "upstream_reset"
        assert asked.requests == 2
        assert asked.ended == [200, 0]
        assert asked.at_rest()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (breaks_off, "upstream_reset"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), "upstream_reset"),
        (says(b"junk"), "upstream_protocol"),
    ],
)
async def test_a_service_that_breaks_off_is_told_on_and_not_asked_again(
    asking: Asking, script: Script, reason: str
) -> None:
    async with asking(script, script) as asked:
        assert await asked.failure() == reason
        assert asked.requests == 1
        assert asked.ended == [0]
        assert asked.observed[-1] == 0
        assert asked.cluster.stats.outcomes[reason] == 1
        assert asked.at_rest()


async def test_junk_on_a_used_connection_is_no_dead_connection(asking: Asking) -> None:
    async with asking(Dying(then=says(b"junk"))) as asked:
        await asked.fetch()
        assert await asked.failure() == "upstream_protocol"
        assert (asked.requests, asked.ended) == (2, [200, 0])


async def test_an_endpoint_that_takes_no_connection_is_passed_over(asking: Asking) -> None:
    async with asking(answer_ok, answer_ok) as asked:
        dead, well = asked.upstreams
        await dead.stop()
        for _ in range(4):
            assert (await asked.fetch()).body == b"%d" % well.port
        assert asked.ended.count(0) == asked.cluster.stats.retries["connect_refused"] == 2
        assert asked.at_rest()


async def test_who_wants_one_endpoint_gets_no_other(asking: Asking) -> None:
    async with asking(Dying(), answer_ok) as asked:
        wanted, other = asked.upstreams
        only = asked.cluster.endpoints[0]
        for _ in range(3):  # from the second on over a connection that is dead
            assert (await asked.fetch(only=only)).status == 200
        await wanted.stop()
        with pytest.raises(GatewayError, match="connect_refused"):
            await asked.fetch(only=only)
        assert (wanted.connections, other.connections) == (3, 0)
        assert asked.at_rest()


async def test_of_endpoints_that_take_no_connection_two_are_tried(asking: Asking) -> None:
    async with asking(answer_ok, answer_ok, answer_ok) as asked:
        for upstream in asked.upstreams:
            await upstream.stop()
        assert await asked.failure() == "connect_refused"
        assert asked.cluster.stats.outcomes == {"connect_refused": 2}


async def test_the_only_endpoint_is_not_dialled_twice(asking: Asking) -> None:
    async with asking(answer_ok) as asked:
        await asked.upstreams[0].stop()
        assert await asked.failure() == "connect_refused"
        assert asked.cluster.stats.outcomes == {"connect_refused": 1}
        assert asked.at_rest()


async def test_a_service_without_endpoints_cannot_be_asked(asking: Asking) -> None:
    async with asking() as asked:
        assert await asked.failure() == "no_endpoints"


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
async def test_a_service_that_takes_too_long_is_left_and_told_on(
    asking: Asking, beginning: bytes
) -> None:
    async def begins(upstream: Upstream, served: Served) -> None:
        await served.send(beginning)
        await says_nothing(upstream, served)

    async with asking(begins) as asked:
        assert await asked.failure(timeout=0.1) == "response_timeout"
        assert asked.ended == [0]
        assert asked.cluster.stats.outcomes["response_timeout"] == 1
        assert asked.at_rest()
        await eventually(asked.all_cut)


async def test_an_endpoint_is_not_to_blame_for_a_queue_of_our_own(asking: Asking) -> None:
    async with asking(says_nothing, pool=PoolConfig(max_connections=1)) as asked:
        holder = asyncio.create_task(asked.fetch())
        await eventually(lambda: _asked(asked, 1))
        assert await asked.failure(timeout=0.1) == "response_timeout"
        assert asked.ended == []
        (endpoint,) = asked.cluster.endpoints
        assert (endpoint.active, endpoint.pool.pending) == (1, 0)
        holder.cancel()
        await asyncio.wait([holder])


async def _asked(asked: Asked, times: int) -> bool:
    return asked.requests >= times


async def test_a_full_queue_is_said_at_once(asking: Asking) -> None:
    pool = PoolConfig(max_connections=1, max_pending=0)
    async with asking(says_nothing, pool=pool) as asked:
        holder = asyncio.create_task(asked.fetch())
        await eventually(lambda: _asked(asked, 1))
        assert await asked.failure() == "pending_overflow"
        assert asked.ended == []
        assert asked.cluster.endpoints[0].active == 1
        holder.cancel()
        await asyncio.wait([holder])


async def test_who_is_cancelled_leaves_nothing_behind(asking: Asking) -> None:
    async with asking(says_nothing) as asked:
        task = asyncio.create_task(asked.fetch())
        await eventually(lambda: _asked(asked, 1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asked.at_rest()
        assert asked.ended == []  # nobody knows what would have come
        await eventually(asked.all_cut)


async def test_who_is_cancelled_in_the_queue_is_not_called_any_more(asking: Asking) -> None:
    let_go = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await let_go.wait()
        await served.ok()

    async with asking(slow, pool=PoolConfig(max_connections=1)) as asked:
        first, second = (asyncio.create_task(asked.fetch()) for _ in range(2))
        await eventually(lambda: _asked(asked, 1))
        second.cancel()
        await asyncio.wait([second])
        let_go.set()
        assert (await first).status == 200
        assert asked.requests == 1
        assert asked.at_rest()


FRAMINGS = {
    "sized": (b"Content-Length: %d\r\n\r\n", b"%b"),
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n"),
    "until close": (b"\r\n", b"%b"),
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_body_may_be_so_large_and_no_larger(asking: Asking, framing: str) -> None:
    def sends(size: int) -> Script:
        fields, form = FRAMINGS[framing]
        body = b"x" * size
        head = b"HTTP/1.1 200 OK\r\n" + (fields % size if b"%" in fields else fields)
        return says(head, form % ((size, body) if b"%x" in form else (body,)))

    async with asking(sends(MOST)) as asked:
        assert len((await asked.fetch()).body) == MOST
    async with asking(sends(MOST + 1)) as asked:
        assert await asked.failure() == "upstream_protocol"
        assert asked.ended == [200]  # it has answered; that it is too much for us is no illness
        assert asked.at_rest()


async def test_an_endless_body_is_cut(asking: Asking) -> None:
    async def endless(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await served.send(b"x" * 1000)

    async with asking(endless) as asked:
        assert await asked.failure() == "upstream_protocol"
        assert asked.at_rest()
        await eventually(asked.all_cut)
