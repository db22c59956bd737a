"""Many clients at a time, each of which sends its next request when it has the last answer.

A client counts what was answered with 200 and notes everything else: a reset, an end of the stream
before the answer, another status. Nothing is repeated, whatever a real client might do.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.running import RunningGateway, Upstream

BOUND = 30.0
"""Seconds for one request and its answer."""

ON_ITS_OWN = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
KEPT = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Load:
    """Clients of ``127.0.0.1:port``.

    :param request: the bytes of one request; with ``Connection: close`` in it each gets a
        connection of its own, otherwise a connection is kept until the gateway closes it.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self.port = port
        self.request = request
        self.answered = 0
        self.connections = 0
        self.failed: Counter[str] = Counter()
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        failed = dict(self.failed) or "none"
        return f"{self.answered} answered on {self.connections} connections, failed: {failed}"

    @contextlib.asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator[Load]:
        """``clients`` of them run until the block is left; then each gets its last answer."""
        self._stopping = False
        tasks = [asyncio.create_task(self._client()) for _ in range(clients)]
        try:
            yield self
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def more(self, answers: int) -> None:
        """Waits until there are so many more answers, or failures."""
        enough = self.answered + self.failed.total() + answers
        async with asyncio.timeout(BOUND):
            while self.answered + self.failed.total() < enough:
                self._news.clear()
                await self._news.wait()

    async def _client(self) -> None:
        while not self._stopping:
            try:
                async with asyncio.timeout(BOUND):
                    await self._connection()
            except (OSError, EOFError, TimeoutError) as error:
                self.failed[f"{type(error).__name__}: {error}"] += 1
                await asyncio.sleep(0.01)  # refused connections would keep everybody busy
            self._news.set()

    async def _connection(self) -> None:
        """Requests on one connection, until the gateway says that it is the last."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.connections += 1
        try:
            while True:
                writer.write(self.request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                status = head[9:12]
                if status == b"200":
                    self.answered += 1
                else:
                    self.failed[f"status {status.decode()}"] += 1
                self._news.set()
                if self._stopping or b"connection: close" in head.lower():
                    break
        finally:
            writer.transport.abort()


def sharing(*upstreams: Upstream) -> str:
    """The configuration of a gateway that shares its port."""
    addresses = [upstream.address for upstream in upstreams]
    return (
        'consul_address: ""\nnats_address: ""\nreuse_port: true\n'
        f"services: {{s: {{endpoints: {addresses}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


async def replace_gateways(
    join: Callable[[str], Awaitable[RunningGateway]], config: str, *, rounds: int, clients: int
) -> list[Load]:
    """Two gateways share a port; the older one is replaced, ``rounds`` times, under load.

    Returns what became of the requests on kept connections, and of those on one of their own.
    """
    gateways = [await join(config), await join(config)]
    port = gateways[0].port
    kept, on_their_own = Load(port, KEPT), Load(port, ON_ITS_OWN)
    async with kept.running(clients), on_their_own.running(2 * clients):
        for _ in range(rounds):
            gateways.append(await join(config))
            await on_their_own.more(2 * clients)
            old = gateways.pop(0)
            old.send(signal.SIGTERM)
            assert await old.wait() == 0
            await on_their_own.more(4 * clients)
    return [kept, on_their_own]
