"""Which endpoints a real gateway uses: health checks, ejections, and limits of one endpoint."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.running import RunningGateway, Script, Served, Upstream, answer_ok, eventually

QUICK = "path: /health, interval: 100ms, timeout: 5s, healthy: 2, unhealthy: 2"
ONCE = "path: /health, interval: 10m, timeout: 1s, unhealthy: 3"
"""The first check is the only one."""


def services_of(*upstreams: Upstream, keys: str = "", route: str = "timeout: 500ms") -> str:
    addresses = ", ".join(f'"{upstream.address}"' for upstream in upstreams)
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{s: {{endpoints: [{addresses}], {keys}}}}}\n"
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s, {route}}}]\n"
    )


class Patient:
    """A service whose answers to checks and to requests can be made bad and good again.

    :param ill: answers in place of a good one.
    """

    def __init__(self, ill: Script) -> None:
        self._ill = ill
        self.checks_fail = False
        self.requests_fail = False

    async def serve(self, upstream: Upstream, served: Served) -> None:
        is_check = served.line.startswith("GET /health ")
        fails = self.checks_fail if is_check else self.requests_fail
        await (self._ill if fails else answer_ok)(upstream, served)


async def status_503(upstream: Upstream, served: Served) -> None:
    await served.send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")


async def redirect(upstream: Upstream, served: Served) -> None:
    await served.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")


async def never(upstream: Upstream, served: Served) -> None:
    await served.reader.read()


async def half_then_never(upstream: Upstream, served: Served) -> None:
    await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await served.reader.read()


async def half_then_reset(upstream: Upstream, served: Served) -> None:
    await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    raise ConnectionResetError


async def reset(upstream: Upstream, served: Served) -> None:
    served.writer.transport.abort()
    raise ConnectionResetError


async def nonsense(upstream: Upstream, served: Served) -> None:
    await served.send(b"220 mail.example ESMTP\r\n")
    await served.reader.read()


def checks(upstream: Upstream) -> list[Served]:
    return [one for one in upstream.served if one.field("user-agent") == ["siger-health-check"]]


def requests(upstream: Upstream) -> int:
    return len(upstream.served) - len(checks(upstream))


async def answering(gateway: RunningGateway, count: int = 20) -> Counter[bytes]:
    """Who answers ``count`` requests: ports, or statuses where it is not 200."""
    answers = [await gateway.get("/") for _ in range(count)]
    return Counter(one.body if one.status == 200 else b"%d" % one.status for one in answers)


async def answered_by(gateway: RunningGateway, *upstreams: Upstream) -> None:
    """Waits until all of these, and they alone, answer."""
    ports = {b"%d" % upstream.port for upstream in upstreams}

    async def look() -> bool:
        return set(await answering(gateway)) == ports

    await eventually(look)


async def state(gateway: RunningGateway, name: str) -> float:
    return await gateway.metric(f'siger_upstream_endpoints{{service="s",state="{name}"}}')


def grown(upstream: Upstream, by: int) -> Callable[[], Awaitable[bool]]:
    """Whether it has got so many more checks by now."""
    before = len(checks(upstream))

    async def look() -> bool:
        return len(checks(upstream)) >= before + by

    return look


# Health checks


async def test_a_service_that_turns_unhealthy_gets_no_requests_and_comes_back(
    serve: Serve, services: Services
) -> None:
    patient = Patient(status_503)
    well, ill = await services(answer_ok, patient.serve)
    gateway = await serve(services_of(well, ill, keys=f"health_check: {{{QUICK}}}"))
    await answered_by(gateway, well, ill)

    patient.checks_fail = True
    line = await gateway.line("endpoint unhealthy")
    assert (line["service"], line["endpoint"], line["error"]) == ("s", ill.address, "status 503")
    await answered_by(gateway, well)
    before = requests(ill)
    assert await answering(gateway) == {b"%d" % well.port: 20}
    assert requests(ill) == before
    assert (await state(gateway, "available"), await state(gateway, "unhealthy")) == (1, 1)
    assert (await gateway.get("/health")).json["status"] == "pass"  # the service is served

    patient.checks_fail = False
    assert (await gateway.line("endpoint healthy"))["endpoint"] == ill.address
    await answered_by(gateway, well, ill)
    assert (await state(gateway, "available"), await state(gateway, "unhealthy")) == (2, 0)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (status_503, "status 503"),
        (redirect, "status 302"),
        (never, "no complete answer in time"),
        (half_then_never, "no complete answer in time"),
        (half_then_reset, "upstream_reset"),
        (reset, "upstream_reset"),
        (nonsense, "upstream_protocol"),
    ],
)
async def test_the_first_check_decides_alone(
    serve: Serve, services: Services, script: Script, error: str
) -> None:
    patient = Patient(script)
    patient.checks_fail = True
    well, ill = await services(answer_ok, patient.serve)
    gateway = await serve(services_of(well, ill, keys=f"health_check: {{{ONCE}}}"))
    line = await gateway.line("endpoint unhealthy")
    assert line["endpoint"] == ill.address
    assert error in line["error"]
    await answered_by(gateway, well)
    assert len(checks(ill)) == 1


async def test_an_endpoint_that_cannot_be_reached_is_unhealthy(
    serve: Serve, services: Services
) -> None:
    well, gone = await services(answer_ok, answer_ok)
    await gone.stop()
    gateway = await serve(services_of(well, gone, keys=f"health_check: {{{ONCE}}}"))
    assert (await gateway.line("endpoint unhealthy"))["endpoint"] == gone.address
    await answered_by(gateway, well)


async def test_a_check_is_a_plain_get_on_a_connection_of_its_own(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    keys = f"health_check: {{{QUICK}, host: users.internal}}"
    gateway = await serve(services_of(upstream, keys=keys))
    await eventually(grown(upstream, 3))
    check = checks(upstream)[-1]
    assert check.line == "GET /health HTTP/1.1"
    assert check.fields == [
        ("host", "users.internal"),
        ("user-agent", "siger-health-check"),
        ("accept", "*/*"),
        ("connection", "close"),
    ]
    assert upstream.connections == len(upstream.served)
    assert await gateway.metric('siger_upstream_connections{service="s",state="idle"}') == 0


async def test_checks_pass_while_every_connection_of_the_pool_is_busy(
    serve: Serve, services: Services
) -> None:
    patient = Patient(never)
    patient.requests_fail = True
    (upstream,) = await services(patient.serve)
    keys = f"health_check: {{{QUICK}}}, pool: {{max_connections: 1, max_pending: 0}}"
    gateway = await serve(services_of(upstream, keys=keys, route="timeout: 30s"))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

        async def arrived() -> bool:
            return requests(upstream) == 1

        await eventually(arrived)
        await eventually(grown(upstream, 4))
        assert await state(gateway, "available") == 1
        assert (await gateway.get("/")).json["reason"] == "pending_overflow"


async def test_a_tcp_check_asks_for_a_connection_only(serve: Serve, services: Services) -> None:
    one, two = await services(answer_ok, answer_ok)
    keys = "health_check: {type: tcp, interval: 100ms, unhealthy: 2}"
    gateway = await serve(services_of(one, two, keys=keys))
    await answered_by(gateway, one, two)

    async def checked() -> bool:
        return two.connections - two.closed <= 1 and two.connections > 3

    await eventually(checked)
    assert not [request for request in two.served if request.line != "GET / HTTP/1.1"]
    await two.stop()
    assert (await gateway.line("endpoint unhealthy"))["endpoint"] == two.address
    await two.start()
    await gateway.line("endpoint healthy")
    await answered_by(gateway, one, two)


async def test_when_all_are_unhealthy_all_are_used(serve: Serve, services: Services) -> None:
    patient = Patient(status_503)
    one, two = await services(patient.serve, patient.serve)
    gateway = await serve(services_of(one, two, keys=f"health_check: {{{QUICK}}}"))
    patient.checks_fail = True
    line = await gateway.line("too few healthy endpoints: all are used")
    assert (line["service"], line["healthy"], line["of"]) == ("s", 0, 2)
    await answered_by(gateway, one, two)
    health = (await gateway.get("/health")).json
    assert health["status"] == "warn"
    assert health["checks"]["proxy:endpoints"][0]["output"] == "none healthy: s"
    patient.checks_fail = False
    await gateway.line("enough healthy endpoints again")
    await answered_by(gateway, one, two)


async def test_an_endpoint_that_has_left_gets_no_checks_by_reload(
    serve: Serve, services: Services
) -> None:
    patient = Patient(never)
    stays, leaves = await services(answer_ok, patient.serve)
    patient.checks_fail = True
    keys = "health_check: {path: /health, interval: 100ms, timeout: 10m}"
    gateway = await serve(services_of(stays, leaves, keys=keys))
    await eventually(grown(leaves, 1))
    gateway.write_config(services_of(stays, keys=keys))
    await gateway.reload()

    async def cancelled() -> bool:
        return leaves.closed == leaves.connections

    await eventually(cancelled)  # the one in flight
    before = leaves.connections
    await eventually(grown(stays, 5))
    assert leaves.connections == before


async def test_an_endpoint_that_has_left_gets_no_checks_by_discovery(
    serve: Serve, services: Services
) -> None:
    patient = Patient(never)
    stays, leaves = await services(answer_ok, patient.serve)
    with ConsulServer() as consul:
        for upstream in (stays, leaves):
            await asyncio.to_thread(
                consul.register, "users", f"u{upstream.port}", port=upstream.port
            )
        await serve(
            f'consul_address: "{consul.address}"\nnats_address: ""\n'
            "services: {s: {consul: users,"
            " health_check: {path: /health, interval: 100ms, timeout: 10m}}}\n"
            "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
        )
        await eventually(grown(leaves, 3))
        patient.checks_fail = True

        async def in_flight() -> bool:
            return leaves.connections == leaves.closed + 1

        await eventually(in_flight)
        await asyncio.to_thread(consul.deregister, f"u{leaves.port}")

        async def cancelled() -> bool:
            return leaves.closed == leaves.connections

        await eventually(cancelled)
        before = leaves.connections
        patient.checks_fail = False
        await eventually(grown(stays, 5))
        assert leaves.connections == before
        await asyncio.to_thread(consul.register, "users", f"u{leaves.port}", port=leaves.port)
        await eventually(grown(leaves, 2))  # and it is checked again when it is back


# Ejections


@pytest.mark.parametrize("script", [reset, half_then_reset, status_503, never])
async def test_an_endpoint_that_fails_five_times_in_a_row_is_ejected_and_comes_back(
    serve: Serve, services: Services, script: Script
) -> None:
    patient = Patient(script)
    patient.requests_fail = True
    well, ill = await services(answer_ok, patient.serve)
    keys = "outlier: {errors: 5, eject_for: 1s}"
    gateway = await serve(services_of(well, ill, keys=keys, route="timeout: 200ms"))

    async def ask() -> bool:
        async with gateway.connect() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            await client.reader.read()
        return any(line["message"] == "endpoint ejected" for line in gateway.lines)

    await eventually(ask)
    line = await gateway.line("endpoint ejected")
    assert (line["service"], line["endpoint"]) == ("s", ill.address)
    assert (line["cause"], line["seconds"]) == ("5 errors in a row", 1.0)
    assert requests(ill) >= 5
    patient.requests_fail = False
    await gateway.line("endpoint returned")
    await answered_by(gateway, well, ill)
    assert await state(gateway, "available") == 2


async def test_an_ejected_endpoint_is_counted_and_gets_nothing(
    serve: Serve, services: Services
) -> None:
    patient = Patient(reset)
    patient.requests_fail = True
    well, ill = await services(answer_ok, patient.serve)
    gateway = await serve(services_of(well, ill, keys="outlier: {errors: 1, eject_for: 5m}"))
    await answered_by(gateway, well)
    assert [await state(gateway, one) for one in ("available", "unhealthy", "ejected")] == [1, 0, 1]
    before = len(ill.served)
    assert await answering(gateway, 50) == {b"%d" % well.port: 50}
    assert len(ill.served) == before


async def test_a_reload_that_leaves_the_service_alone_keeps_its_ejections(
    serve: Serve, services: Services
) -> None:
    patient = Patient(reset)
    patient.requests_fail = True
    well, ill = await services(answer_ok, patient.serve)
    config = services_of(well, ill, keys="outlier: {errors: 1, eject_for: 5m}")
    gateway = await serve(config)
    await answered_by(gateway, well)
    gateway.write_config(config + "log_level: warning\n")
    await gateway.reload()
    assert await state(gateway, "ejected") == 1


async def test_when_all_fail_no_more_than_the_share_is_ejected(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(*[status_503] * 4)
    keys = "outlier: {errors: 2, eject_for: 5m, max_ejected: 50%}"
    gateway = await serve(services_of(*upstreams, keys=keys))

    async def two_out() -> bool:
        await gateway.get("/")
        return await state(gateway, "ejected") == 2

    await eventually(two_out)
    assert await answering(gateway) == {b"503": 20}
    assert await state(gateway, "ejected") == 2


async def test_a_response_that_is_dropped_for_a_retry_counts(
    serve: Serve, services: Services
) -> None:
    well, ill = await services(answer_ok, status_503)
    keys, route = "outlier: {errors: 5, eject_for: 5m}", "retry: {on: [503]}"
    gateway = await serve(services_of(well, ill, keys=keys, route=route))

    async def ejected() -> bool:
        assert (await gateway.get("/")).body == b"%d" % well.port
        return any(line["message"] == "endpoint ejected" for line in gateway.lines)

    await eventually(ejected)
    assert len(ill.served) >= 5
    await answered_by(gateway, well)


async def test_a_client_that_leaves_ejects_nobody(serve: Serve, services: Services) -> None:
    upstreams = await services(never, never)
    keys = "outlier: {errors: 1, eject_for: 5m}"
    gateway = await serve(services_of(*upstreams, keys=keys, route="timeout: 30s"))
    for number in range(4):
        async with gateway.connect() as client:
            await client.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: left-%d\r\n\r\n" % number
            )

            async def arrived(count: int = number + 1) -> bool:
                return sum(len(one.served) for one in upstreams) == count

            await eventually(arrived)
        assert (await gateway.access(f"left-{number}"))["status"] == 499
    assert [await state(gateway, one) for one in ("available", "ejected")] == [2, 0]


@pytest.mark.parametrize(
    "route", ["timeout: 200ms", "timeout: 30s, retry: {on: [connect], per_try_timeout: 200ms}"]
)
async def test_a_client_that_does_not_send_the_body_it_announced_ejects_nobody(
    serve: Serve, services: Services, route: str
) -> None:
    upstreams = await services(answer_ok, answer_ok)
    keys = "outlier: {errors: 1, eject_for: 5m}"
    gateway = await serve(services_of(*upstreams, keys=keys, route=route))
    for _ in range(4):
        async with gateway.connect() as client:
            await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\npart")
            assert (await client.answer()).json["reason"] == "response_timeout"
    assert [await state(gateway, one) for one in ("available", "ejected")] == [2, 0]


# Limits of one endpoint


async def test_no_more_than_max_pending_wait_for_a_connection(
    serve: Serve, services: Services
) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await go_on.wait()
        await answer_ok(upstream, served)

    (upstream,) = await services(script)
    keys = "pool: {max_connections: 1, max_pending: 2}"
    gateway = await serve(services_of(upstream, keys=keys, route="timeout: 30s"))

    async def ask() -> Any:
        return await gateway.get("/")

    pending = 'siger_upstream_pending{service="s"}'
    waiting = [asyncio.create_task(ask()) for _ in range(3)]

    async def full() -> bool:
        return await gateway.metric(pending) == 2

    await eventually(full)
    answer = await gateway.get("/")
    assert (answer.status, answer.json["reason"]) == (503, "pending_overflow")
    go_on.set()
    assert [(await one).status for one in waiting] == [200, 200, 200]
    assert await gateway.metric(pending) == 0
