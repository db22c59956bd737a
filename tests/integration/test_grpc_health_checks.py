"""Active checks by grpc.health.v1, asked of a server of grpcio's own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from siger_gateway.config.schema import HealthCheckConfig, PoolConfig
from siger_gateway.upstream.dial import Dialer
from siger_gateway.upstream.health import check
from siger_gateway.upstream.stream_pool import StreamPool

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WHOLE = HealthCheckConfig(type="grpc")
PART = HealthCheckConfig(type="grpc", service="dante.Users")


@dataclass
class Asked:
    """A server, and what it says of itself."""

    server: grpc.Server
    says: health.HealthServicer
    port: int

    async def check(self, config: HealthCheckConfig) -> str | None:
        return await check(StreamPool(Dialer("127.0.0.1", self.port, None), PoolConfig()), config)


@pytest.fixture
def asked() -> Iterator[Asked]:
    # Threads, not grpc.aio: its poller does not outlive the event loop of a test well.
    server = grpc.server(ThreadPoolExecutor(2))
    says = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(says, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Asked(server, says, port)
    server.stop(None).wait()


async def test_a_server_is_well_when_it_says_that_it_is_serving(asked: Asked) -> None:
    asked.says.set("", SERVING)
    assert await asked.check(WHOLE) is None
    asked.says.set("", NOT_SERVING)
    assert await asked.check(WHOLE) == "not serving"


async def test_one_service_of_a_server_can_be_asked_for(asked: Asked) -> None:
    asked.says.set("", SERVING)
    assert await asked.check(PART) == "grpc-status 5"
    asked.says.set("dante.Users", SERVING)
    assert await asked.check(PART) is None


async def test_a_server_that_has_gone_is_not_well(asked: Asked) -> None:
    asked.server.stop(None).wait()
    assert await asked.check(WHOLE) is not None
