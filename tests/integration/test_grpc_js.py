"""grpc's interop cases with a client of grpc-js, which is HTTP/2 by nghttp2: through a real gateway
process to a service of grpcio. The other way round, grpcio to grpc-js, they run in test_grpc.py.

The cases themselves are in grpc_js/client.js; here is what only the service and the gateway know.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from tests import grpc_js
from tests.grpc_js import GrpcJsClient
from tests.grpc_services import GrpcService
from tests.grpc_ways import certified, gateways
from tests.running import RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Way:
    """A client, the service that its calls come to, and the gateway between them."""

    client: GrpcJsClient
    service: GrpcService
    gateway: RunningGateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ways(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Way]]:
    if why := grpc_js.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("grpc_js")
    issued = certified(folder)
    plain, secure = GrpcService(), GrpcService()
    await plain.start(None, grpc.Compression.Gzip)
    await secure.start(issued.server, grpc.Compression.Gzip)
    async with (
        gateways(folder, plain, secure, issued) as between,
        contextlib.AsyncExitStack() as stack,
    ):
        ways = {
            "port": Way(GrpcJsClient(between.plain.port), plain, between.plain),
            "grpc_port": Way(GrpcJsClient(between.plain.grpc_port), plain, between.plain),
            "tls": Way(
                GrpcJsClient(between.secure.port, issued.authority.file), secure, between.secure
            ),
        }
        for way in ways.values():
            await way.client.start()
            stack.push_async_callback(way.client.stop)
        yield ways


@pytest_asyncio.fixture(loop_scope="module", params=["port", "grpc_port", "tls"])
async def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    chosen = ways[request.param]
    await chosen.service.forget()
    return chosen


@pytest.mark.parametrize(
    "case",
    [
        "empty_unary",
        "large_unary",
        "client_streaming",
        "server_streaming",
        "ping_pong",
        "empty_stream",
        "custom_metadata",
        "status_code_and_message",
        "special_status_message",
        "unimplemented_method",
        "unimplemented_service",
        "calls_at_the_same_time",
    ],
)
async def test_the_interop_case_passes(way: Way, case: str) -> None:
    way.client.begin(case)
    await way.client.passed()


@pytest.mark.parametrize("case", ["cancel_after_begin", "cancel_of_a_call_that_waits"])
async def test_a_call_that_is_cancelled_before_any_answer_ends_at_the_service(
    way: Way, case: str
) -> None:
    way.client.begin(case)
    served = await way.service.called()
    way.client.cancel()
    await way.client.passed()
    await served.end()


@pytest.mark.parametrize("case", ["cancel_after_first_response", "timeout_on_sleeping_server"])
async def test_a_call_that_is_given_up_is_cancelled_at_the_service(way: Way, case: str) -> None:
    way.client.begin(case)
    await way.client.passed()
    assert (await (await way.service.called()).end()).cancelled


async def test_the_deadline_of_the_client_reaches_the_service(way: Way) -> None:
    way.client.begin("empty_unary")
    await way.client.passed()
    remaining = (await way.service.called()).time_remaining
    assert remaining is not None
    assert 0 < remaining <= 15


@pytest.mark.parametrize(
    "case",
    ["large_unary_gzip", "large_unary_deflate", "client_streaming_gzip", "server_streaming_gzip"],
)
async def test_compressed_messages_are_passed_on_as_they_are(way: Way, case: str) -> None:
    request_id = f"{case}-{id(way)}"
    way.client.begin(case, x_request_id=request_id)
    await way.client.passed()
    line = await way.gateway.access(request_id)
    # Of 70 kB and more, or of a few bytes.
    assert 0 < line["bytes_in"] < 2000
    assert 0 < line["bytes_out"] < 2000
