"""Limits that several gateways share, with a real Consul that tells how many there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.running import RunningGateway, answer_ok, eventually


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


async def let_through(gateway: RunningGateway, tenant: str) -> int:
    """How many of 40 requests of a client that has not been there yet."""
    answers = [await gateway.get("/", f"X-Tenant: {tenant}") for _ in range(40)]
    return sum(answer.status == 200 for answer in answers)


async def test_a_limit_is_divided_among_the_gateways_that_are_alive(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    config = (
        f"consul_address: {consul.address}\nregister: {{name: edge}}\n"
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        "routes: [{name: r, service: s, match: {path_prefix: /},"
        " rate_limit: {requests: 30, per: 24h, key: 'header:x-tenant'}}]\n"
    )
    first = await serve(config)
    clients = iter(range(10_000))
    assert await let_through(first, "alone") == 30
    second = await serve(config)
    third = await serve(config)
    for gateway in (first, second, third):

        async def shares(gateway: RunningGateway = gateway) -> bool:
            return await let_through(gateway, f"c{next(clients)}") == 10

        await eventually(shares, bound=30.0)
    policy = (await first.get("/", "X-Tenant: new")).headers["ratelimit-policy"]
    assert policy == '"24h";q=30;w=86400'  # of all of them together
    # Who leaves, leaves its share to the others.
    await second.stop()
    consul.call("PUT", f"/v1/agent/service/deregister/{_id_of(consul, second.port)}")

    async def has_half() -> bool:
        return await let_through(first, f"c{next(clients)}") == 15

    await eventually(has_half, bound=30.0)
    # An outage of Consul changes nothing.
    consul.kill()
    await first.line("consul does not answer as it should; the last tables stay")
    assert await let_through(first, "outage") == 15


def _id_of(consul: ConsulServer, port: int) -> str:
    services = consul.call("GET", "/v1/agent/services")
    return next(one for one, service in services.items() if service["Port"] == port)
