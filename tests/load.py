"""Many clients at a time, each of which sends its next request when it has the last answer.

A client counts what was answered with 200 and notes everything else: a reset, an end of the stream
before the answer, another status. Nothing is repeated, whatever a real client might do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

BOUND = 30.0
"""Seconds for one request and its answer."""


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
