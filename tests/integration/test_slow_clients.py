"""Clients that are slow on purpose, in the four ways of slowhttptest, which ``make campaign`` runs:
they lose their connections, and everybody else is answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.conftest import Serve, Services
from tests.integration.test_proxy import one_service
from tests.integration.test_retries import says_nothing
from tests.load import KEPT, ON_ITS_OWN, Load
from tests.running import Client, RunningGateway, Served, Upstream, answer_ok, eventually

SLOW = 20
"""Slow clients at a time: more than there may be connections to the service."""
SIZE = 8 << 20
"""Bytes of a large response: more than the kernel's buffers hold."""


async def service(upstream: Upstream, served: Served) -> None:
    await served.body()
    await served.ok(bytes(SIZE if served.line.split()[1] == "/large" else 10))


async def start(serve: Serve, services: Services, limits: str) -> RunningGateway:
    (upstream,) = await services(service)
    return await serve(
        f'consul_address: ""\nnats_address: ""\nlimits: {{{limits}}}\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"], pool: {{max_connections: 10}}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


@contextlib.asynccontextmanager
async def others(gateway: RunningGateway) -> AsyncIterator[None]:
    """Ordinary clients, none of whom may fail; and all slow ones are gone in the end."""
    kept, on_their_own = Load(gateway.port, KEPT), Load(gateway.port, ON_ITS_OWN)
    async with kept.running(3), on_their_own.running(3):
        await kept.more(10)
        yield
        await kept.more(10)
        await on_their_own.more(10)
    assert not kept.failed, kept
    assert not on_their_own.failed, on_their_own

    async def released() -> bool:
        return await gateway.metric("siger_downstream_connections") == 1

    await eventually(released)


async def test_a_client_that_leaves_after_its_body_is_noticed(
    serve: Serve, services: Services
) -> None:
    """The body has come whole before there was a connection to send it on."""
    (upstream,) = await services(says_nothing)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nX-Request-Id: leaver\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )

        async def asked() -> bool:
            return bool(upstream.served)

        await eventually(asked)
    assert (await gateway.access("leaver"))["status"] == 499


async def drip(client: Client, head: bytes) -> int:
    """Sends a byte ten times a second until there is an answer; returns its status."""
    await client.send(head)
    answer = asyncio.create_task(client.answer())
    while not answer.done():
        with contextlib.suppress(ConnectionError):
            await client.send(b"x")
        await asyncio.wait([answer], timeout=0.1)
    return answer.result().status


async def test_heads_that_drip_are_refused_and_keep_nobody_waiting(
    serve: Serve, services: Services
) -> None:
    gateway = await start(serve, services, "header_timeout: 500ms")
    async with others(gateway), contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(gateway.connect()) for _ in range(SLOW)]
        statuses = await asyncio.gather(*(drip(one, b"GET / HTTP/1.1\r\nX-A: ") for one in slow))
        assert statuses == [408] * SLOW


@pytest.mark.parametrize("length", [4096, 1 << 20])
async def test_bodies_that_drip_are_refused_and_give_their_connections_back(
    serve: Serve, services: Services, length: int
) -> None:
    gateway = await start(serve, services, "idle_timeout: 1s")
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
    async with others(gateway), contextlib.AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(gateway.connect()) for _ in range(SLOW)]
        assert await asyncio.gather(*(drip(one, head) for one in slow)) == [408] * SLOW


async def test_a_small_body_goes_to_the_service_when_it_is_whole(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        assert (await gateway.get("/x")).status == 200
        await client.send(b"def")
        assert (await gateway.get("/y")).status == 200
        await client.send(b"ghi")
        assert (await client.answer()).status == 200
    lines = [served.line for served in upstream.served]
    assert lines == ["GET /x HTTP/1.1", "GET /y HTTP/1.1", "POST / HTTP/1.1"]


async def test_clients_that_do_not_read_are_cut_and_give_their_connections_back(
    serve: Serve, services: Services
) -> None:
    gateway = await start(serve, services, "idle_timeout: 500ms")
    async with others(gateway):
        with contextlib.ExitStack() as stack:
            for _ in range(SLOW):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", gateway.port))
                client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)

            async def cut() -> bool:
                name = 'siger_downstream_connections_closed_total{reason="client_stalled"}'
                return await gateway.metric(name) == SLOW

            await eventually(cut)


async def test_many_ranges_are_the_services_affair(serve: Serve, services: Services) -> None:
    gateway = await start(serve, services, "header_bytes: 32KiB")
    ranges = ",".join(f"5-{number}" for number in range(1300))
    async with others(gateway), gateway.connect() as client:
        for _ in range(SLOW):
            assert (await client.request("HEAD /", f"Range: bytes=0-,{ranges}")).status == 200
