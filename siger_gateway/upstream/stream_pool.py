"""The HTTP/2 connections to one endpoint: few of them, each with many streams.

To exchanges it is what ``pool`` is for HTTP/1.1: ``take`` gives a stream at once if a connection
has room, and ``wait`` calls back. Another connection is opened only when all that there are, and
those being opened, have no room for those who wait.
"""

from __future__ import annotations

import asyncio
import logging

from siger_gateway.config.schema import PoolConfig
from siger_gateway.http2.client import MAX_STREAMS, ClientConnection, ClientStream
from siger_gateway.tls.client import ClientTls
from siger_gateway.upstream.dial import Dialer, why_not
from siger_gateway.upstream.pool import Waiter

log = logging.getLogger(__name__)


class StreamPool(Dialer):
    """The connections to ``host:port``.

    :param tls: None: h2c, by prior knowledge.
    """

    __slots__ = ("_config", "_connections", "_now", "_opening", "_tasks", "_waiting", "retired")

    def __init__(
        self, host: str, port: int, config: PoolConfig, tls: ClientTls | None = None
    ) -> None:
        super().__init__(host, port, tls)
        self.retired = False
        self._config = config
        self._connections: list[ClientConnection] = []
        self._opening = 0
        self._waiting: dict[Waiter, None] = {}
        self._now = asyncio.get_running_loop().time()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return (
            f"<StreamPool {self.address} connections={self._connections} "
            f"waiting={len(self._waiting)}{' retired' if self.retired else ''}>"
        )

    @property
    def idle(self) -> int:
        """Connections without streams."""
        return sum(not one.streams for one in self._connections)

    @property
    def busy(self) -> int:
        return len(self._connections) + self._opening - self.idle

    @property
    def pending(self) -> int:
        """Exchanges in the queue for a stream."""
        return len(self._waiting)

    def take(self) -> ClientStream | None:
        """A stream, or None."""
        for connection in self._connections:
            if connection.room > 0:
                return ClientStream(connection)
        return None

    def wait(self, waiter: Waiter) -> bool:
        """Queues ``waiter``, and opens a connection if need be; False when the queue is full."""
        most = self._config.max_pending + MAX_STREAMS * self._opening
        if len(self._waiting) >= most and not self._may_open():
            return False
        self._waiting[waiter] = None
        if len(self._waiting) > MAX_STREAMS * self._opening and self._may_open():
            self._open()
        return True

    def give_up(self, waiter: Waiter) -> None:
        """``waiter`` no longer waits, and is not called."""
        self._waiting.pop(waiter, None)

    def on_room(self, connection: ClientConnection) -> None:
        """``connection`` takes another stream."""
        if connection.idle_since < self._now:
            connection.idle_since = self._now
        while self._waiting and connection.room > 0:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            waiter.on_connection(ClientStream(connection))

    def forget(self, connection: ClientConnection) -> None:
        """``connection`` takes no more streams, and is none of the pool's."""
        if connection in self._connections:
            self._connections.remove(connection)
        if self._waiting and not self._opening and self._may_open():
            self._open()

    def _may_open(self) -> bool:
        return len(self._connections) + self._opening < self._config.max_connections

    def _open(self) -> None:
        self._opening += 1
        task = asyncio.get_running_loop().create_task(self._open_connection())
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)

    async def _open_connection(self) -> None:
        connection = ClientConnection(self, self._now)
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self.dial(lambda: connection)
        except OSError as error:
            self._opening -= 1
            connection.discard()
            self._tell_failure(*why_not(error))
            return
        except BaseException:
            self._opening -= 1
            connection.discard()
            raise
        self._opening -= 1
        if connection.closed:  # its first bytes, or its end, came with that of the handshake
            self._tell_failure("connect_failed", "closed before it was used")
            return
        self._connections.append(connection)
        if self.retired:
            connection.retire()
        else:
            self.on_room(connection)

    def _tell_failure(self, reason: str, detail: str) -> None:
        """Those who wait for nothing else are told."""
        fields = {"endpoint": self.address, "error": detail}
        log.debug("connect failed", extra={"fields": fields})
        if self._opening or any(one.room > 0 for one in self._connections):
            return
        failed, self._waiting = list(self._waiting), {}
        for waiter in failed:
            waiter.on_no_connection(reason, detail)

    def close_stale(self, now: float) -> None:
        """Closes connections that are idle for longer than ``idle_timeout``, or do not answer;
        ``now`` is the loop's time."""
        self._now = now
        oldest = now - self._config.idle_timeout
        for connection in list(self._connections):
            connection.check(now)
            if not connection.closed and not connection.streams and connection.idle_since < oldest:
                connection.retire()

    def retire(self) -> None:
        """The endpoint has left: connections close when their streams are over."""
        self.retired = True
        for connection in list(self._connections):
            connection.retire()

    async def close(self) -> None:
        """Stops connecting and closes idle connections."""
        self.retire()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
