"""Active checks by grpc.health.v1, asked of a server of grpcio's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from siger_gateway.config.schema import HealthCheckConfig, PoolConfig
from siger_gateway.upstream.health import check
from siger_gateway.upstream.stream_pool import StreamPool

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHOLE = HealthCheckConfig(type="grpc")
PART = HealthCheckConfig(type="grpc", service="dante.Users")


@pytest.fixture
async def servicer() -> AsyncIterator[tuple[health.aio.HealthServicer, StreamPool, aio.Server]]:
    server = aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, StreamPool("127.0.0.1", port, PoolConfig(), None), server
    await server.stop(None)


async def test_a_server_is_well_when_it_says_that_it_is_serving(
    servicer: tuple[health.aio.HealthServicer, StreamPool, aio.Server],
) -> None:
    said, pool, _ = servicer
    await said.set("", SERVING)
    assert await check(pool, WHOLE) is None
    await said.set("", NOT_SERVING)
    assert await check(pool, WHOLE) == "not serving"


async def test_one_service_of_a_server_can_be_asked_for(
    servicer: tuple[health.aio.HealthServicer, StreamPool, aio.Server],
) -> None:
    said, pool, _ = servicer
    await said.set("", SERVING)
    assert await check(pool, PART) == "grpc-status 5"
    await said.set("dante.Users", SERVING)
    assert await check(pool, PART) is None


async def test_a_server_that_has_gone_is_not_well(
    servicer: tuple[health.aio.HealthServicer, StreamPool, aio.Server],
) -> None:
    _, pool, server = servicer
    await server.stop(None)
    assert await check(pool, WHOLE) is not None
