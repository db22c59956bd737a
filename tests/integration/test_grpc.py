"""grpc's interop cases: a client of grpcio, a service of grpcio or of grpc-js, and a real gateway
process between them. With a client of grpc-js they run in test_grpc_js.py.

The cases are those of grpc/doc/interop-test-descriptions.md that a proxy can get wrong. Each runs
on every way into the gateway: the port that speaks both HTTP/1.1 and HTTP/2, the one of gRPC alone,
and TLS with ALPN, where the service too is spoken to over TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio

from tests import grpc_js
from tests.grpc_js import GrpcJsService
from tests.grpc_services import (
    ECHO_INITIAL,
    ECHO_TRAILING,
    GrpcService,
    TestClient,
    ask,
    client_of,
    failure,
)
from tests.grpc_ways import Service, certified, gateways
from tests.running import BOUND, RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE_REQUEST, LARGE_RESPONSE = 271828, 314159
"""Bytes, as in the descriptions."""
LONG = 4 * BOUND
"""Seconds: the deadline of calls that are cancelled, so that it is not what ends them."""
REQUEST_SIZES = (27182, 8, 1828, 45904)
RESPONSE_SIZES = (31415, 9, 2653, 58979)


@dataclass
class Way:
    """A client, the service that its calls come to, and the gateway between them."""

    client: TestClient
    service: Service
    gateway: RunningGateway


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["to_grpcio", "to_grpc_js"])
async def ways(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[dict[str, Way]]:
    folder = tmp_path_factory.mktemp("grpc")
    issued = certified(folder)
    services: list[Service]
    if request.param == "to_grpcio":
        plain, secure = GrpcService(), GrpcService()
        await plain.start(None, grpc.Compression.Gzip)
        await secure.start(issued.server, grpc.Compression.Gzip)
        services = [plain, secure]
    elif why := grpc_js.missing():
        pytest.skip(why)
    else:
        services = [GrpcJsService(), GrpcJsService(issued.pair)]
        for service in services:
            await service.start()
    async with (
        gateways(folder, *services, issued) as between,
        client_of(between.plain.port) as on_port,
        client_of(between.plain.grpc_port) as on_grpc_port,
        client_of(between.secure.port, issued.client) as over_tls,
    ):
        yield {
            "port": Way(on_port, services[0], between.plain),
            "grpc_port": Way(on_grpc_port, services[0], between.plain),
            "tls": Way(over_tls, services[1], between.secure),
        }


@pytest_asyncio.fixture(loop_scope="module", params=["port", "grpc_port", "tls"])
async def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    chosen = ways[request.param]
    await chosen.service.forget()
    return chosen


async def messages(*requests: bytes) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def test_empty_unary(way: Way) -> None:
    call = way.client.empty(b"", timeout=BOUND)
    assert await call == b""
    assert await call.code() == grpc.StatusCode.OK


async def test_large_unary(way: Way) -> None:
    answer = await way.client.unary(ask(LARGE_REQUEST, size=LARGE_RESPONSE), timeout=BOUND)
    assert answer == bytes(LARGE_RESPONSE)


async def test_very_large_unary(way: Way) -> None:
    """More than all windows and buffers on the way; and there is no limit of the body's size."""
    size = 20 << 20
    assert await way.client.unary(ask(size, size=size), timeout=BOUND) == bytes(size)


async def test_client_streaming(way: Way) -> None:
    requests = messages(*(bytes(size) for size in REQUEST_SIZES))
    assert await way.client.input(requests, timeout=BOUND) == ask(total=sum(REQUEST_SIZES))


async def test_server_streaming(way: Way) -> None:
    call = way.client.output(ask(sizes=RESPONSE_SIZES), timeout=BOUND)
    assert [len(answer) async for answer in call] == list(RESPONSE_SIZES)


async def test_ping_pong(way: Way) -> None:
    """Each answer is there before the next question: nothing is held back for more to come."""
    call = way.client.duplex(timeout=BOUND)
    for asked, wanted in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True):
        await call.write(ask(asked, size=wanted))
        assert len(await call.read()) == wanted
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def test_empty_stream(way: Way) -> None:
    call = way.client.duplex(messages(), timeout=BOUND)
    assert [answer async for answer in call] == []
    assert await call.code() == grpc.StatusCode.OK


METADATA = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, b"\xab\xab\xab"))


async def test_custom_metadata_of_a_unary_call(way: Way) -> None:
    call = way.client.unary(ask(size=1), metadata=METADATA, timeout=BOUND)
    assert await call == bytes(1)
    assert dict(await call.initial_metadata())[METADATA[0][0]] == METADATA[0][1]
    assert dict(await call.trailing_metadata())[METADATA[1][0]] == METADATA[1][1]


async def test_custom_metadata_of_a_stream(way: Way) -> None:
    call = way.client.duplex(messages(ask(size=1)), metadata=METADATA, timeout=BOUND)
    assert [answer async for answer in call] == [bytes(1)]
    assert dict(await call.initial_metadata())[METADATA[0][0]] == METADATA[0][1]
    assert dict(await call.trailing_metadata())[METADATA[1][0]] == METADATA[1][1]


@pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), b"," * 3, b"\xff" * 3000])
async def test_binary_metadata_come_to_the_service_and_back(way: Way, value: bytes) -> None:
    call = way.client.unary(ask(), metadata=((ECHO_TRAILING, value),), timeout=BOUND)
    await call
    assert (await way.service.called()).metadata[ECHO_TRAILING] == value
    assert dict(await call.trailing_metadata())[ECHO_TRAILING] == value


async def test_status_code_and_message(way: Way) -> None:
    request = ask(code=2, message="test status message")
    unary = await failure(way.client.unary(request, timeout=BOUND))
    assert (unary.code(), unary.details()) == (grpc.StatusCode.UNKNOWN, "test status message")
    stream = await failure(way.client.duplex(messages(request), timeout=BOUND))
    assert (stream.code(), stream.details()) == (grpc.StatusCode.UNKNOWN, "test status message")


@pytest.mark.parametrize("code", range(1, 17))
async def test_every_code_of_the_service_comes_to_the_client(way: Way, code: int) -> None:
    error = await failure(way.client.unary(ask(code=code, message="why"), timeout=BOUND))
    assert (error.code().value[0], error.details()) == (code, "why")


async def test_special_status_message(way: Way) -> None:
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
    error = await failure(way.client.unary(ask(code=2, message=message), timeout=BOUND))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, message)


async def test_unimplemented_method(way: Way) -> None:
    call = way.client.channel.unary_unary("/grpc.testing.TestService/UnimplementedCall")
    assert (await failure(call(b"", timeout=BOUND))).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_unimplemented_service(way: Way) -> None:
    call = way.client.channel.unary_unary("/grpc.testing.UnimplementedService/EmptyCall")
    assert (await failure(call(b"", timeout=BOUND))).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_cancel_after_begin(way: Way) -> None:
    call = way.client.input(timeout=LONG)
    served = await way.service.called()
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    await served.end()


async def test_cancel_after_first_response(way: Way) -> None:
    call = way.client.duplex(timeout=LONG)
    await call.write(ask(27182, size=31415, wait=True))
    assert len(await call.read()) == 31415
    call.cancel()
    assert await call.code() == grpc.StatusCode.CANCELLED
    assert (await (await way.service.called()).end()).cancelled


async def test_cancel_of_a_call_that_waits(way: Way) -> None:
    """While the service has not said a word."""
    call = way.client.silent(timeout=LONG)
    served = await way.service.called()
    call.cancel()
    assert (await served.end()).cancelled


async def test_timeout_on_sleeping_server(way: Way) -> None:
    call = way.client.silent(timeout=0.2)
    await call.write(bytes(27182))
    assert await call.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await (await way.service.called()).end()).cancelled


async def test_compressed_messages_are_passed_on_as_they_are(way: Way) -> None:
    request_id = f"compressed-{id(way)}"
    call = way.client.unary(
        ask(LARGE_REQUEST, size=LARGE_RESPONSE),
        metadata=(("x-request-id", request_id),),
        compression=grpc.Compression.Gzip,
        timeout=BOUND,
    )
    assert await call == bytes(LARGE_RESPONSE)
    line = await way.gateway.access(request_id)
    assert line["bytes_in"] < LARGE_REQUEST // 100
    if way.service.compresses:
        assert line["bytes_out"] < LARGE_RESPONSE // 100


async def test_compressed_streams(way: Way) -> None:
    requests = [
        ask(asked, size=size) for asked, size in zip(REQUEST_SIZES, RESPONSE_SIZES, strict=True)
    ]
    call = way.client.duplex(messages(*requests), compression=grpc.Compression.Gzip, timeout=BOUND)
    assert [len(answer) async for answer in call] == list(RESPONSE_SIZES)


async def test_calls_at_the_same_time_do_not_mix(way: Way) -> None:
    """Many more than streams that the gateway takes on one connection."""
    sizes = range(300)
    answers = await asyncio.gather(
        *(way.client.unary(ask(size=size), timeout=BOUND) for size in sizes)
    )
    assert [len(answer) for answer in answers] == list(sizes)
