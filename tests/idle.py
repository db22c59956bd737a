"""Idle connections to a gateway, and what they cost it in memory."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket

from tests.running import RunningGateway, eventually

ALLOWED = 12 * 1024
"""Bytes of resident memory per idle connection that the project promises (issue 3)."""

REQUEST = (
    b"GET /api/v1/users/42 HTTP/1.1\r\nHost: gateway.test\r\nAccept: application/json\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n"
    b"Authorization: Bearer " + b"x" * 300 + b"\r\n\r\n"
)
"""What a browser's request weighs."""


def allow_files(count: int) -> None:
    """Lets this process open so many files at least, or fails with what the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        assert hard >= count, f"the system allows {hard} open files, the test needs {count}"
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


async def bytes_per_connection(gateway: RunningGateway, count: int, request: bytes) -> float:
    """Opens ``count`` connections, sends ``request`` on each unless it is empty, reads the answer.

    Returns the growth of the gateway's memory by each, while all of them are open and idle. Some
    are opened and closed before, so that what the first ones cost once is not counted.
    """
    allow_files(count + 200)
    await asyncio.to_thread(_hold, gateway, 50, request, 0)
    await _none_left(gateway)
    before = gateway.resident
    grown: int = await asyncio.to_thread(_hold, gateway, count, request, before)
    return grown / count


def _hold(gateway: RunningGateway, count: int, request: bytes, before: int) -> int:
    """Blocking sockets, one after the other: nothing is cheaper for 10,000 of them."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 30))
            if request:
                client.sendall(request)
                answer = client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 "), answer
        # All are accepted once a later one has been answered.
        with socket.create_connection(("127.0.0.1", gateway.port), 30) as last:
            last.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            assert last.recv(65536).startswith(b"HTTP/1.1 200 ")
        return gateway.resident - before


async def _none_left(gateway: RunningGateway) -> None:
    async def alone() -> bool:
        return await gateway.metric("siger_downstream_connections") == 1

    await eventually(alone)
