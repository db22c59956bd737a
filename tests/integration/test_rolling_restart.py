"""Gateways and services are replaced one after the other, under load: no request fails."""

from __future__ import annotations

import pytest

from tests.conftest import Join, Services
from tests.load import KEPT, ON_ITS_OWN, Load, replace_gateways, sharing
from tests.running import Upstream, answer_ok, eventually


async def test_no_request_fails_while_gateways_on_one_port_are_replaced(
    join: Join, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    for load in await replace_gateways(join, sharing(upstream), rounds=1, clients=10):
        assert not load.failed, load


async def test_without_reuse_port_a_second_gateway_on_the_port_is_an_error(
    join: Join, services: Services
) -> None:
    config = sharing(*await services(answer_ok)).replace("reuse_port: true\n", "")
    await join(config)
    with pytest.raises(AssertionError, match="cannot listen"):
        await join(config)


async def test_gateways_that_share_a_port_share_the_clients(join: Join, services: Services) -> None:
    config = sharing(*await services(answer_ok))
    gateways = [await join(config), await join(config)]
    async with Load(gateways[0].port, ON_ITS_OWN).running(5) as load:

        async def both() -> bool:
            return all(gateway.access_log.exists() for gateway in gateways)

        await eventually(both)
    assert not load.failed, load


async def test_no_request_fails_while_services_are_replaced(join: Join, services: Services) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    gateway = await join(sharing(*upstreams))
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
