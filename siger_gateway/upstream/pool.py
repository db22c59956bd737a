"""The connections to one endpoint: taken, given back, opened when there are too few.

An exchange asks ``take`` for an idle connection first; only when there is none does it ``wait``,
and is called back. Idle connections are used last in, first out, so that a quiet endpoint's
surplus grows old and is closed instead of being kept alive by turns.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from siger_gateway.config.schema import PoolConfig
from siger_gateway.http1.client import UpstreamConnection
from siger_gateway.http2.client_stream import ClientStream
from siger_gateway.upstream.dial import Dialer, why_not

log = logging.getLogger(__name__)


AnyConnection = UpstreamConnection | ClientStream
"""What serves an exchange: a connection of HTTP/1.1, or a stream of one of HTTP/2."""


class Waiter(Protocol):
    """An exchange that waits for a connection; exactly one of the two is called, once, unless it
    has given up."""

    def on_connection(self, connection: AnyConnection) -> None: ...

    def on_no_connection(self, reason: str, detail: str) -> None: ...


class Pool:
    """The connections that ``dialer`` opens."""

    __slots__ = (
        "_config",
        "_idle",
        "_now",
        "_open",
        "_opening",
        "_tasks",
        "_waiting",
        "dialer",
        "retired",
    )

    def __init__(self, dialer: Dialer, config: PoolConfig) -> None:
        self.dialer = dialer
        self.retired = False
        self._config = config
        self._idle: list[UpstreamConnection] = []
        self._now = asyncio.get_running_loop().time()
        # As of the last close_stale: get_running_loop() on each release is a system call (getpid,
        # in Python 3.11).
        self._open = 0  # established and being opened
        self._waiting: deque[Waiter] = deque()
        self._opening: dict[Waiter, UpstreamConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return (
            f"<Pool {self.dialer.address} idle={len(self._idle)} open={self._open} "
            f"waiting={len(self._waiting)}{' retired' if self.retired else ''}>"
        )

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        return self._open - len(self._idle)

    @property
    def pending(self) -> int:
        """Exchanges in the queue for a connection."""
        return len(self._waiting)

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None."""
        return self._idle.pop() if self._idle else None

    def wait(self, waiter: Waiter) -> bool:
        """Opens a connection for ``waiter``, or queues it; False when the queue is full."""
        if self._open < self._config.max_connections:
            self._connect(waiter)
        elif len(self._waiting) < self._config.max_pending:
            self._waiting.append(waiter)
        else:
            return False
        return True

    def give_up(self, waiter: Waiter) -> None:
        """``waiter`` no longer waits, and is not called: it may be waiting elsewhere by the time
        that its connection is there, which then is for whoever comes first."""
        if self._opening.pop(waiter, None) is None and waiter in self._waiting:
            self._waiting.remove(waiter)

    def release(self, connection: UpstreamConnection) -> None:
        """The connection is free again."""
        if connection.closed:  # it is not counted any more
            return
        if self._waiting:
            self._waiting.popleft().on_connection(connection)
        elif self.retired:
            connection.abort()
        else:
            connection.idle_since = self._now
            self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is closed; somebody who waits gets a new one in its place."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._connect(self._waiting.popleft())

    def _connect(self, waiter: Waiter) -> None:
        self._open += 1
        connection = self._opening[waiter] = UpstreamConnection(self)
        task = asyncio.get_running_loop().create_task(self._open_connection(connection, waiter))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _open_connection(self, connection: UpstreamConnection, waiter: Waiter) -> None:
        failure = await self._try_to_connect(connection)
        awaited = self._opening.get(waiter) is connection  # else ``waiter`` has given it up
        if awaited:
            del self._opening[waiter]
        if failure is not None:
            self._open -= 1
            reason, detail = failure
            fields = {"endpoint": self.dialer.address, "error": detail}
            log.debug("connect failed", extra={"fields": fields})
            if awaited:
                waiter.on_no_connection(reason, detail)
            if self._waiting and self._open < self._config.max_connections:
                self._connect(self._waiting.popleft())
        elif not awaited:
            self.release(connection)
        elif connection.closed:  # its first bytes, or its end, came with that of the handshake
            waiter.on_no_connection("connect_failed", "closed before it was used")
        else:
            waiter.on_connection(connection)

    async def _try_to_connect(self, connection: UpstreamConnection) -> tuple[str, str] | None:
        """Opens the connection; reason and detail when that fails."""
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self.dialer.dial(lambda: connection)
        except OSError as error:
            connection.discard()  # after a timeout it may have come just now
            return why_not(error)
        return None

    def close_stale(self, now: float) -> None:
        """Closes connections idle for longer than ``idle_timeout``; ``now`` is the loop's time."""
        self._now = now
        oldest = now - self._config.idle_timeout
        if self._idle and self._idle[0].idle_since < oldest:
            for connection in [one for one in self._idle if one.idle_since < oldest]:
                connection.abort()

    def retire(self) -> None:
        """The endpoint has left: idle connections close now, busy ones when they are done."""
        self.retired = True
        for connection in list(self._idle):
            connection.abort()

    async def close(self) -> None:
        """Stops connecting and closes idle connections."""
        self.retire()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
