"""Gateways and services are replaced one after the other, under load: no request fails."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.load import Load
from tests.running import RunningGateway, Upstream, answer_ok, eventually
from tests.unit.test_handshakes import needs_filters

ON_ITS_OWN = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
KEPT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

Join = Callable[[str], Awaitable[RunningGateway]]


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    """``await join(yaml)`` starts a gateway on the port of the first one."""
    started: list[RunningGateway] = []

    async def start(config: str) -> RunningGateway:
        folder = tmp_path / f"gateway{len(started)}"
        folder.mkdir()
        gateway = RunningGateway(folder, config)
        gateway.port = started[0].port if started else 0
        gateway.write_config(config)
        started.append(gateway)
        await gateway.start()
        return gateway

    yield start
    for gateway in started:
        await gateway.stop()


def proxied(*upstreams: Upstream, rest: str = "reuse_port: true\n") -> str:
    addresses = [upstream.address for upstream in upstreams]
    return (
        f'consul_address: ""\nnats_address: ""\n{rest}services: {{s: {{endpoints: {addresses}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


async def replace_gateways(join: Join, config: str, rounds: int, clients: int) -> list[Load]:
    """Two gateways share a port; the older one is replaced, ``rounds`` times."""
    gateways = [await join(config), await join(config)]
    port = gateways[0].port
    kept, on_their_own = Load(port, KEPT), Load(port, ON_ITS_OWN)
    async with kept.running(clients), on_their_own.running(2 * clients):
        for _ in range(rounds):
            gateways.append(await join(config))
            await on_their_own.more(2 * clients)
            old = gateways.pop(0)
            old.send(signal.SIGTERM)
            assert await old.wait() == 0
            await on_their_own.more(4 * clients)
    return [kept, on_their_own]


@needs_filters
async def test_no_request_fails_while_gateways_on_one_port_are_replaced(
    join: Join, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    for load in await replace_gateways(join, proxied(upstream), rounds=1, clients=10):
        assert not load.failed, load


async def test_without_reuse_port_a_second_gateway_on_the_port_is_an_error(
    join: Join, services: Services
) -> None:
    config = proxied(*await services(answer_ok), rest="")
    await join(config)
    with pytest.raises(AssertionError, match="cannot listen"):
        await join(config)


async def test_gateways_that_share_a_port_share_the_clients(join: Join, services: Services) -> None:
    config = proxied(*await services(answer_ok))
    gateways = [await join(config), await join(config)]
    async with Load(gateways[0].port, ON_ITS_OWN).running(5) as load:

        async def both() -> bool:
            return all(gateway.access_log.exists() for gateway in gateways)

        await eventually(both)
    assert not load.failed, load


async def test_no_request_fails_while_services_are_replaced(join: Join, services: Services) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    gateway = await join(proxied(*upstreams))
    async with Load(gateway.port, KEPT).running(20) as load:
        for upstream in upstreams:
            await load.more(100)
            await upstream.leave()
            await load.more(100)
            await upstream.start()
            before = upstream.connections

            async def used(upstream: Upstream = upstream, before: int = before) -> bool:
                return upstream.connections > before

            await eventually(used)
    assert not load.failed, load
