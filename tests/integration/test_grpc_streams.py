"""gRPC in quantities: streams at a time, messages of one stream, and readers that are slow."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.conftest import Serve
from tests.grpc_services import GrpcService, TestClient, ask, client_of, routed
from tests.running import BOUND, eventually

MEBIBYTE = 1 << 20
LONG = 60.0
"""Seconds for what has many steps."""


@pytest.fixture
async def service() -> AsyncIterator[GrpcService]:
    service = GrpcService()
    await service.start()
    yield service
    await service.stop()


async def test_a_thousand_streams_at_the_same_time(serve: Serve, service: GrpcService) -> None:
    """All are open before the first one ends; more than one connection takes, to either side."""
    gateway = await serve(routed(service))
    opened = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def stream(client: TestClient, number: int) -> None:
        call = client.duplex(timeout=LONG)
        for size in (number, 1, 2):
            await call.write(ask(size=size))
            assert await call.read() == bytes(size)
            if size == number:
                opened.release()
                await go_on.wait()
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client_of(gateway.port)) for _ in range(10)]
        async with asyncio.timeout(LONG), asyncio.TaskGroup() as streams:
            for number in range(1000):
                streams.create_task(stream(clients[number % 10], number))
            for _ in range(1000):
                await opened.acquire()
            assert await gateway.in_flight(1000)
            go_on.set()
    assert len(service.calls) == 1000
    await eventually(lambda: gateway.in_flight(0))


async def test_a_long_stream_takes_no_memory(serve: Serve, service: GrpcService) -> None:
    gateway = await serve(routed(service))
    async with client_of(gateway.port) as client:
        call = client.output(ask(count=105_000, size=10), timeout=LONG)
        before = count = 0
        async for message in call:
            assert len(message) == 10
            count += 1
            if count == 5_000:
                before = gateway.resident
        assert count == 105_000
        assert gateway.resident - before < 10 * MEBIBYTE


async def test_a_client_that_reads_slowly_makes_the_service_wait(
    serve: Serve, service: GrpcService
) -> None:
    """Of 256 MiB only what the windows, and the buffers of the three processes, take is on its
    way; the other streams of the connection go on; what was held back comes in the end."""
    gateway = await serve(routed(service))
    size, count = 65536, 4096
    async with client_of(gateway.port) as client:
        call = client.output(ask(count=count, size=size), timeout=LONG)
        for _ in range(4):
            assert len(await call.read()) == size
        before, sent = gateway.resident, -1
        served = service.calls[0]

        async def stalled() -> bool:
            nonlocal sent
            quiet, sent = sent == served.messages, served.messages
            return quiet

        await eventually(stalled)
        assert served.messages * size < 64 * MEBIBYTE
        assert gateway.resident - before < 16 * MEBIBYTE
        for _ in range(10):
            assert await client.unary(ask(size=size), timeout=BOUND) == bytes(size)
        for _ in range(count // 4):
            assert len(await call.read()) == size
        assert served.messages >= count // 4
        call.cancel()
        await served.end()


async def test_a_service_that_reads_slowly_makes_the_client_wait(
    serve: Serve, service: GrpcService
) -> None:
    gateway = await serve(routed(service))
    size, written = 65536, 0
    async with client_of(gateway.port) as client:
        call = client.silent(timeout=LONG)

        async def pour() -> None:
            nonlocal written
            while True:
                await call.write(bytes(size))
                written += size

        pouring = asyncio.create_task(pour())
        await service.called()
        seen = -1

        async def stalled() -> bool:
            nonlocal seen
            quiet, seen = seen == written > 0, written
            return quiet

        before = gateway.resident
        await eventually(stalled)
        assert written < 64 * MEBIBYTE
        assert gateway.resident - before < 16 * MEBIBYTE
        assert await client.unary(ask(size=size), timeout=BOUND) == bytes(size)
        pouring.cancel()
        call.cancel()
        assert (await service.calls[0].end()).cancelled
