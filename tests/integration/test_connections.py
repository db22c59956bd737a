"""Many connections: what an idle one costs, and what happens when there are too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve, Services
from tests.idle import ALLOWED, REQUEST, bytes_per_connection
from tests.running import BOUND, Served, Upstream, answer_ok, eventually


def proxied(upstream: Upstream, limits: str) -> str:
    return (
        f'consul_address: ""\nnats_address: ""\nlimits: {{{limits}}}\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


@pytest.mark.parametrize("request_bytes", [REQUEST, b""], ids=["after a request", "silent"])
async def test_an_idle_connection_costs_little_memory(
    serve: Serve, services: Services, request_bytes: bytes
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, "connections: 10000"))
    assert await bytes_per_connection(gateway, 1000, request_bytes) <= ALLOWED


async def test_idle_connections_lock_nobody_out(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, "connections: 5"))
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(gateway.connect()) for _ in range(5)]
        await held[0].send(b"GET / HTTP/1.1\r\nHo")  # a head that does not come either
        await held[1].request("GET /")

        async def served() -> bool:
            with contextlib.suppress(ConnectionError):
                return (await gateway.get("/")).status == 200
            return False

        await eventually(served)
        for _ in range(20):  # one after the other
            assert await served()


async def test_busy_connections_are_not_closed_for_newcomers(
    serve: Serve, services: Services
) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await go_on.wait()
        await served.ok()

    (upstream,) = await services(script)
    gateway = await serve(proxied(upstream, "connections: 2"))
    async with gateway.connect() as first, gateway.connect() as second, gateway.connect() as third:
        for client in (first, second):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

        async def both() -> bool:
            return len(upstream.served) == 2

        await eventually(both)
        answer = await third.answer()
        assert (answer.status, answer.json["reason"]) == (503, "too_many_connections")
        assert answer.headers["connection"] == "close"
        go_on.set()
        assert [(await client.answer()).status for client in (first, second)] == [200, 200]
        first.writer.transport.abort()

        # The one that was turned away is still there: it takes nobody's place.
        async def served() -> bool:
            return (await gateway.get("/")).status == 200

        await eventually(served)
    name = 'siger_local_replies_total{reason="too_many_connections"}'
    assert await gateway.metric(name) >= 1


async def test_a_client_that_leaves_the_end_of_a_response_unread_is_cut(
    serve: Serve, services: Services
) -> None:
    size = 20 << 20  # more than the kernel buffers

    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(bytes(size))

    (upstream,) = await services(script)
    gateway = await serve(proxied(upstream, "idle_timeout: 1s"))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", gateway.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

        async def cut() -> bool:
            name = 'siger_downstream_connections_closed_total{reason="client_stalled"}'
            return await gateway.metric(name) == 1

        await eventually(cut)

    async def released() -> bool:
        return await gateway.metric("siger_downstream_connections") == 1

    await eventually(released)


def limited(tmp_path: Path, limit: str, port: int) -> subprocess.CompletedProcess[str]:
    """``serve`` in a shell with ``ulimit``, on a port that is taken, so that it ends at once."""
    config = tmp_path / "c.yaml"
    config.write_text(
        f'port: "127.0.0.1:{port}"\nconsul_address: ""\nnats_address: ""\n'
        "limits: {connections: 2000}\n"
    )
    command = f'ulimit {limit} && exec "$0" -m siger_gateway serve --config "$1"'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, str(config)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


@pytest.mark.parametrize(("limit", "warned"), [("-n 1000", True), ("-S -n 1000", False)])
def test_too_few_open_files_are_said_so_and_a_soft_limit_is_raised(
    tmp_path: Path, limit: str, warned: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = limited(tmp_path, limit, taken.getsockname()[1])
    warnings = [
        line for line in map(json.loads, done.stderr.splitlines()) if line["level"] == "warning"
    ]
    assert done.returncode == 1
    assert bool(warnings) is warned
    if warned:
        assert "open files" in warnings[0]["message"]
        assert (warnings[0]["allowed"], warnings[0]["limits.connections"]) == (1000, 2000)
