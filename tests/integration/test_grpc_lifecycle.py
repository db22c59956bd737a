"""gRPC while services and gateways come and go: real processes, grpcio on both ends.

The clients repeat nothing by policy. What a GOAWAY has told them is unseen they send again by
themselves, as every client of gRPC does ("transparent retries", gRFC A6).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc import aio

from tests.conftest import Join, Serve
from tests.grpc_services import GrpcService, TestClient, ask, client_of, routed
from tests.running import BOUND, eventually

Started = Callable[[], Awaitable["ServiceProcess"]]


class ServiceProcess:
    """A service that can be killed."""

    def __init__(self) -> None:
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.grpc_services"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(BOUND):
            self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@pytest.fixture
async def started() -> AsyncIterator[Started]:
    """``await started()`` starts a service in a process of its own."""
    processes: list[ServiceProcess] = []

    async def start() -> ServiceProcess:
        process = ServiceProcess()
        processes.append(process)
        await process.start()
        return process

    yield start
    for process in processes:
        await process.kill()


@contextlib.asynccontextmanager
async def serving(number: int) -> AsyncIterator[list[GrpcService]]:
    services = [GrpcService() for _ in range(number)]
    for service in services:
        await service.start()
    try:
        yield services
    finally:
        for service in services:
            await service.stop()


class UnaryLoad:
    """Clients that make one unary call after the other; what became of them is counted."""

    def __init__(self) -> None:
        self.answers = 0
        self.failed = Counter[str]()
        self._news = asyncio.Event()
        self._stopping = False

    @contextlib.asynccontextmanager
    async def running(self, client: TestClient, at_once: int = 20) -> AsyncIterator[UnaryLoad]:
        tasks = [asyncio.create_task(self._calls(client)) for _ in range(at_once)]
        try:
            yield self
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _calls(self, client: TestClient) -> None:
        while not self._stopping:
            try:
                await client.unary(ask(size=100), timeout=BOUND)
                self.answers += 1
            except aio.AioRpcError as error:
                self.failed[f"{error.code()}: {error.details()}"] += 1
                await asyncio.sleep(0.01)  # refused calls would keep everybody busy
            self._news.set()

    async def more(self, calls: int) -> None:
        """Waits for so many more calls."""
        enough = self.answers + self.failed.total() + calls
        async with asyncio.timeout(BOUND):
            while self.answers + self.failed.total() < enough:
                self._news.clear()
                await self._news.wait()


# Services.


async def test_calls_of_a_service_that_is_killed_are_unavailable_and_the_next_go_elsewhere(
    serve: Serve, started: Started
) -> None:
    both = [await started(), await started()]
    gateway = await serve(routed(*both))
    async with client_of(gateway.port) as client:
        calls = [client.duplex(timeout=BOUND) for _ in range(4)]
        for call in calls:
            await call.write(ask(size=1))
            assert await call.read() == bytes(1)
        dead, alive = both
        await dead.kill()
        codes = Counter[Any]()
        for call in calls:
            with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(ask(size=2))
                await call.done_writing()
                assert await call.read() == bytes(2)
            # The other one is what grpcio says when it was about to write behind the end.
            ended = await call.details() == "Internal error from Core"
            codes[grpc.StatusCode.UNAVAILABLE if ended else await call.code()] += 1
        assert codes == {grpc.StatusCode.UNAVAILABLE: 2, grpc.StatusCode.OK: 2}
        for _ in range(6):
            call = client.unary(ask(), timeout=BOUND)
            await call
            assert dict(await call.trailing_metadata())["x-port"] == str(alive.port)


async def test_a_call_that_waits_for_its_first_answer_is_unavailable_when_the_service_is_killed(
    serve: Serve, started: Started
) -> None:
    service = await started()
    gateway = await serve(routed(service))
    async with client_of(gateway.port) as client:
        call = client.silent(timeout=BOUND)
        await call.write(b"x")
        await eventually(lambda: gateway.in_flight(1))
        await service.kill()
        assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def test_no_call_is_lost_while_services_say_goaway(serve: Serve) -> None:
    """Before its GOAWAY has arrived, grpcio's server answers calls that it has not begun yet with
    CANCELLED, whoever its client is; so that has to be among the codes after which a call is made
    again, and there are no more calls at once than the budget of such retries takes."""
    async with serving(2) as services:
        retry = ", retry: {attempts: 3, on: [connect, cancelled]}"
        gateway = await serve(routed(*services, route=retry))
        async with client_of(gateway.port) as client, UnaryLoad().running(client, 3) as load:
            for service in services:
                await load.more(50)
                before = len(service.calls)
                await service.stop(grace=BOUND)
                await load.more(50)
                await service.start()

                async def used(service: GrpcService = service, before: int = before) -> bool:
                    return len(service.calls) > before + 5

                await eventually(used)
        assert not load.failed, load.failed


async def test_a_stream_outlives_the_goaway_of_its_service(serve: Serve) -> None:
    async with serving(1) as (service,):
        gateway = await serve(routed(service))
        async with client_of(gateway.port) as client:
            call = client.duplex(timeout=BOUND)
            await call.write(ask(size=1))
            assert await call.read() == bytes(1)
            stopping = asyncio.create_task(service.stop(grace=BOUND))

            async def told() -> bool:
                return (await client.unary(ask(), timeout=BOUND).code()) != grpc.StatusCode.OK

            await eventually(told)  # it takes no more calls
            await call.write(ask(size=2))
            assert await call.read() == bytes(2)
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK
            await stopping


# Gateways.


async def test_no_call_is_lost_while_a_gateway_drains(join: Join) -> None:
    async with serving(1) as (service,):
        config = "reuse_port: true\n" + routed(service)
        old = await join(config)
        async with client_of(old.port) as client, UnaryLoad().running(client) as load:
            await load.more(100)
            new = await join(config)
            old.send(signal.SIGTERM)
            assert await old.wait() == 0
            await load.more(100)
            assert await new.metric('siger_http_requests_total{code="200",method="POST",route="r"}')
        assert not load.failed, load.failed


async def test_no_call_is_lost_in_a_rolling_restart(join: Join) -> None:
    async with serving(2) as services:
        config = "reuse_port: true\n" + routed(*services)
        gateways = [await join(config), await join(config)]
        async with contextlib.AsyncExitStack() as stack:
            loads = []
            for _ in range(4):  # connections are shared out by the kernel
                client = await stack.enter_async_context(client_of(gateways[0].port))
                loads.append(await stack.enter_async_context(UnaryLoad().running(client, 5)))
            for _ in range(2):
                gateways.append(await join(config))
                old = gateways.pop(0)
                old.send(signal.SIGTERM)
                assert await old.wait() == 0
                for load in loads:
                    await load.more(20)
        assert not sum((load.failed for load in loads), Counter()), loads


async def test_a_drain_lets_calls_end_and_then_cuts_them(serve: Serve) -> None:
    async with serving(1) as (service,):
        gateway = await serve(routed(service, rest="drain_timeout: 2s\n"))
        async with client_of(gateway.port) as client:
            brief, lasting = client.duplex(timeout=BOUND), client.duplex(timeout=BOUND)
            for call in (brief, lasting):
                await call.write(ask(size=1))
                assert await call.read() == bytes(1)
            gateway.send(signal.SIGTERM)
            await gateway.line("draining")
            for call in (brief, lasting):
                await call.write(ask(size=2))
                assert await call.read() == bytes(2)
            await brief.done_writing()
            assert await brief.code() == grpc.StatusCode.OK
            assert await lasting.code() == grpc.StatusCode.UNAVAILABLE
            assert await gateway.wait() == 0
            assert (await service.calls[1].end()).messages == 2


async def test_streams_live_through_a_reload(serve: Serve) -> None:
    async with serving(2) as (old, new):
        gateway = await serve(routed(old))
        async with client_of(gateway.port) as client:
            call = client.duplex(timeout=BOUND)
            await call.write(ask(size=1))
            assert await call.read() == bytes(1)
            gateway.write_config(routed(new))
            assert (await gateway.reload())["message"] == "reloaded"
            await client.unary(ask(), timeout=BOUND)
            assert (len(old.calls), len(new.calls)) == (1, 1)
            await call.write(ask(size=2))
            assert await call.read() == bytes(2)
            await call.done_writing()
            assert await call.code() == grpc.StatusCode.OK


async def test_no_call_is_lost_while_the_configuration_is_reloaded(serve: Serve) -> None:
    async with serving(2) as services:
        gateway = await serve(routed(*services))
        async with client_of(gateway.port) as client, UnaryLoad().running(client) as load:
            for service in [*services, *services]:
                gateway.write_config(routed(service))
                assert (await gateway.reload())["message"] == "reloaded"
                await load.more(50)
        assert not load.failed, load.failed
