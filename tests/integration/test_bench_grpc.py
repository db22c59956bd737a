"""The loads and the service of the gRPC benchmark: real clients know them, errors are seen."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from benchmarks.grpc.load import prepare
from benchmarks.grpc.wire import MESSAGE
from benchmarks.processes import free_ports
from tests.grpc_services import GrpcService
from tests.programs import module
from tests.running import BOUND, eventually

CALLS = 2000
"""For which header blocks are prepared: when they are used up, a load ends."""
SECONDS, CONNECTIONS, STREAMS = 0.2, 2, 4
LONG = 60.0
"""Seconds that nobody waits for."""
PAYLOAD = MESSAGE[5:]


@asynccontextmanager
async def backend(kind: str, folder: Path) -> AsyncIterator[int]:
    """The port of the benchmark's service."""
    (port,) = free_ports(1)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    async with module("benchmarks.grpc.backend", kind, port, folder=folder):
        await eventually(listens)
        yield port


async def result(load: Process) -> dict[str, float]:
    async with asyncio.timeout(BOUND):
        output, _ = await load.communicate()
    found: dict[str, float] = json.loads(output.decode().rpartition("RESULT ")[2])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path, CONNECTIONS, CALLS)
    return tmp_path


async def test_a_real_client_takes_the_service_for_a_real_one(folder: Path) -> None:
    async with (
        asyncio.timeout(BOUND),
        backend("unary", folder) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.unary_unary("/bench.Echo/Say")(PAYLOAD)
        assert await call == PAYLOAD
        assert await call.code() == grpc.StatusCode.OK


async def test_a_real_client_gets_an_answer_to_each_of_its_messages(folder: Path) -> None:
    async with (
        asyncio.timeout(BOUND),
        backend("chat", folder) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        call = channel.stream_stream("/bench.Echo/Say")()
        for _ in range(3):
            await call.write(PAYLOAD)
            assert await call.read() == PAYLOAD
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("load", "kind"), [("unary", "unary"), ("grpcio", "unary"), ("chat", "chat")]
)
async def test_a_load_counts_what_was_answered(load: str, kind: str, folder: Path) -> None:
    async with backend(kind, folder) as port:
        words = port, SECONDS, CONNECTIONS, STREAMS
        async with module(f"benchmarks.grpc.{load}", *words, folder=folder) as process:
            found = await result(process)
    assert found["calls"] >= CONNECTIONS * STREAMS
    assert found["errors"] == 0


async def test_a_constant_rate_is_kept_until_the_load_is_told_to_end(folder: Path) -> None:
    async with backend("unary", folder) as port:
        words = port, LONG, CONNECTIONS, STREAMS, 500
        async with module("benchmarks.grpc.unary", *words, folder=folder) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"STARTED\n"
            process.terminate()
            found = await result(process)
    assert found["seconds"] < LONG
    assert found["calls"] <= 500 * found["seconds"] + 1
    assert found["errors"] == 0


@pytest.mark.parametrize("load", ["unary", "grpcio", "chat"])
async def test_a_service_that_refuses_calls_makes_errors(load: str, folder: Path) -> None:
    service = GrpcService(refuses=grpc.StatusCode.UNAVAILABLE)
    await service.start()
    try:
        words = service.port, SECONDS, CONNECTIONS, STREAMS
        async with module(f"benchmarks.grpc.{load}", *words, folder=folder) as process:
            assert (await result(process))["errors"] > 0
    finally:
        await service.stop()
