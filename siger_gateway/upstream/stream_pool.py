"""The HTTP/2 connections to one endpoint: few of them, each with many streams.

To exchanges it is what ``pool`` is for HTTP/1.1: ``take`` gives a stream at once if a connection
has room, and ``wait`` calls back. Another connection is opened only when all that there are, and
those being opened, have no room for those who wait. It is used when the service's SETTINGS have
come, as gRPC does it: then it is known to speak HTTP/2, and how many streams it takes.
"""

from __future__ import annotations

import asyncio
import logging

from siger_gateway.config.schema import PoolConfig
from siger_gateway.http2.client import MAX_STREAMS, ClientConnection
from siger_gateway.http2.client_stream import ClientStream
from siger_gateway.upstream.dial import Dialer, why_not
from siger_gateway.upstream.pool import Waiter

log = logging.getLogger(__name__)


class StreamPool:
    """The connections that ``dialer`` opens: with TLS, or h2c by prior knowledge."""

    __slots__ = (
        "_config",
        "_connections",
        "_leaving",
        "_now",
        "_opening",
        "_streams_each",
        "_tasks",
        "_waiting",
        "dialer",
        "retired",
    )

    def __init__(self, dialer: Dialer, config: PoolConfig) -> None:
        self.dialer = dialer
        self.retired = False
        self._config = config
        self._connections: list[ClientConnection] = []
        self._leaving: set[ClientConnection] = set()  # take no more streams, but have some
        self._opening = 0
        self._streams_each = MAX_STREAMS  # of the last connection that was opened
        self._waiting: dict[Waiter, None] = {}
        self._now = asyncio.get_running_loop().time()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return (
            f"<StreamPool {self.dialer.address} connections={self._connections} "
            f"waiting={len(self._waiting)}{' retired' if self.retired else ''}>"
        )

    @property
    def idle(self) -> int:
        """Connections without streams."""
        return sum(not one.streams for one in self._connections)

    @property
    def busy(self) -> int:
        return len(self._connections) + len(self._leaving) + self._opening - self.idle

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
        most = self._config.max_pending + self._streams_each * self._opening
        if len(self._waiting) >= most and not self._may_open():
            return False
        self._waiting[waiter] = None
        if not self._open_if_short() and any(one.room > 0 for one in self._connections):
            # It did not trust what ``take`` would have given it, but there is nothing else.
            asyncio.get_running_loop().call_soon(self._serve)
        return True

    def give_up(self, waiter: Waiter) -> None:
        """``waiter`` no longer waits, and is not called."""
        self._waiting.pop(waiter, None)
        self._retire_if_done()

    def on_room(self, connection: ClientConnection) -> None:
        """``connection`` takes another stream."""
        if connection.idle_since < self._now:
            connection.idle_since = self._now
        while self._waiting and connection.room > 0:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            waiter.on_connection(ClientStream(connection))
        if self.retired:
            self._retire_if_done()

    def on_leaving(self, connection: ClientConnection) -> None:
        """``connection`` takes no more streams; others have to, for those who wait."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._leaving.add(connection)
            self._open_if_short()

    def forget(self, connection: ClientConnection) -> None:
        """``connection`` is closed."""
        self._leaving.discard(connection)
        if connection in self._connections:
            self._connections.remove(connection)
        self._open_if_short()

    def _serve(self) -> None:
        for connection in list(self._connections):
            self.on_room(connection)

    def _may_open(self) -> bool:
        return len(self._connections) + self._opening < self._config.max_connections

    def _open_if_short(self) -> bool:
        """Opens a connection if those being opened are too few for all who wait."""
        if len(self._waiting) <= self._streams_each * self._opening or not self._may_open():
            return False
        self._opening += 1
        task = asyncio.get_running_loop().create_task(self._open_connection())
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        return True

    async def _open_connection(self) -> None:
        connection = ClientConnection(self, self._now)
        failure = None
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self.dialer.dial(lambda: connection)
                await connection.opened.wait()  # it says how many streams it takes, if it can
        except OSError as error:
            failure = why_not(error)
        except BaseException:
            self._opening -= 1
            connection.discard()
            self._tell_failure("connect_failed", "given up")
            raise
        self._opening -= 1
        if failure is None and (connection.closed or connection.leaving):
            failure = "connect_failed", "closed before it was used"
        if failure is not None:
            connection.discard()
            self._tell_failure(*failure)
            return
        self._connections.append(connection)
        self._streams_each = max(1, connection.room)
        if connection.room > 0:
            self.on_room(connection)
            self._open_if_short()

    def _tell_failure(self, reason: str, detail: str) -> None:
        """Those who wait for nothing else are told."""
        fields = {"endpoint": self.dialer.address, "error": detail}
        log.debug("connect failed", extra={"fields": fields})
        if self._opening or any(one.room > 0 for one in self._connections):
            return
        for waiter in list(self._waiting):
            if waiter in self._waiting:  # not given up because of the others
                del self._waiting[waiter]
                waiter.on_no_connection(reason, detail)
        self._retire_if_done()

    def close_stale(self, now: float) -> None:
        """Closes connections that are idle for longer than ``idle_timeout``, or do not answer;
        ``now`` is the loop's time."""
        self._now = now
        oldest = now - self._config.idle_timeout
        for connection in [*self._connections, *self._leaving]:
            connection.check(now)
            if not connection.closed and not connection.streams and connection.idle_since < oldest:
                connection.retire()

    def retire(self) -> None:
        """The endpoint has left: connections close when their streams are over, and nobody waits
        for one any more."""
        self.retired = True
        self._retire_if_done()

    def _retire_if_done(self) -> None:
        if self.retired and not self._waiting:
            for connection in list(self._connections):
                connection.retire()

    async def close(self) -> None:
        """Stops connecting and closes idle connections."""
        self.retire()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
