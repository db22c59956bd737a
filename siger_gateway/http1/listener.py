"""The listening socket: accepts connections, looks after them, and lets them go in a drain.

There is no timer per connection. The listener looks at all of them once a second (``_sweep``):
slow heads, slow bodies, idle connections and clients that do not read are found that way.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from siger_gateway.http1.server import DownstreamConnection, ServerLimits
from siger_gateway.http1.stream import Handler

SWEEP_INTERVAL: Final = 1.0
"""Seconds between two looks at all connections."""
BACKLOG: Final = 4096
"""Connections that the kernel completes before they are accepted; it cuts this to somaxconn."""


class Listener:
    """A listening socket and the connections accepted from it."""

    def __init__(self, handler: Handler, limits: ServerLimits) -> None:
        self.handler = handler
        self.limits = limits
        self.draining = False
        self.connections: set[DownstreamConnection] = set()
        self.now = asyncio.get_running_loop().time()
        """Seconds, as old as the last sweep: exact enough for timeouts of seconds."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int) -> None:
        """Listens; ``host`` "" is every interface, ``port`` 0 any free one. Raises ``OSError``."""
        self._socket = _bind(host, port)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: DownstreamConnection(self), sock=self._socket, backlog=BACKLOG
        )
        self.port = int(self._socket.getsockname()[1])
        self._sweep()

    def add(self, connection: DownstreamConnection) -> None:
        self.connections.add(connection)
        if len(self.connections) > self.limits.connections:
            connection.refuse_connection()

    def remove(self, connection: DownstreamConnection) -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = self.now = loop.time()
        for connection in list(self.connections):
            connection.check(now, self.limits)
        self._sweeper = loop.call_later(SWEEP_INTERVAL, self._sweep)

    async def drain(self, timeout: float, idle_grace: float) -> None:
        """Accepts no more, lets every exchange finish, then closes; at most ``timeout`` seconds.

        A keep-alive connection that seems idle may have a request under way to us: it is kept for
        ``idle_grace`` seconds, so that this request is answered, with ``Connection: close``.
        """
        self.draining = True
        await self._accept_the_last()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while self.connections and loop.time() < deadline:
            self._empty.clear()
            try:
                wait = min(deadline - loop.time(), max(idle_grace, 0.05))
                await asyncio.wait_for(self._empty.wait(), wait)
            except TimeoutError:
                now = loop.time()
                for connection in list(self.connections):
                    connection.close_if_idle(now - idle_grace)
        self.close()

    async def _accept_the_last(self) -> None:
        """Takes over what the kernel has completed but nobody accepted: closing the socket would
        reset those connections, and their clients have a right to think they were accepted."""
        server, listening = self._server, self._socket
        if server is None or listening is None:
            return
        loop = asyncio.get_running_loop()
        duplicate = listening.dup()
        server.close()
        try:
            duplicate.setblocking(False)
            while True:
                connection, _ = duplicate.accept()
                await loop.connect_accepted_socket(lambda: DownstreamConnection(self), connection)
        except OSError:  # BlockingIOError: the queue is empty
            pass
        finally:
            duplicate.close()
            self._server = self._socket = None

    def close(self) -> None:
        """Closes everything at once."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; every interface means IPv6 with IPv4, or IPv4 where there is no IPv6."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
        )
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(info[4][:2], family=info[0], backlog=BACKLOG)
