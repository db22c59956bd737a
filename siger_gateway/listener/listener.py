"""The listening socket: accepts connections, looks after them, and lets them go in a drain.

There is no timer per connection. The listener looks at all of them once a second (``_sweep``):
slow heads, slow bodies, idle connections and clients that do not read are found that way, and so
are TLS handshakes that do not come to an end (``accept.py``).

At the limit of connections a newcomer takes the place of the connection that has been at rest for
longest; nginx does so too. Only where all are busy is it refused. So clients that hold connections
without using them lock nobody out.
"""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from siger_gateway.http.connection import Connection, ServerLimits
from siger_gateway.http.stream import Handler
from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.http2.run_queue import run_queue
from siger_gateway.http2.server import ServerConnection
from siger_gateway.listener import handshakes
from siger_gateway.listener.accept import AcceptedConnection, TlsSettings

SWEEP_INTERVAL: Final = 1.0
"""Seconds between two looks at all connections."""
LAST_WORDS: Final = 1.0
"""Seconds that a drain waits for the connections that it has cut off: it takes two turns of the
loop."""
BACKLOG: Final = 4096
"""Connections that the kernel completes before they are accepted; it cuts this to somaxconn."""
AT_REST: Final = 2.0
"""Seconds without a byte, and without an exchange, after which a connection may have to make room:
more than the sweep's clock is late by, and than a head takes whose packets are not lost."""
MAX_TURNED_AWAY: Final = 128
"""Connections above the limit that are told so; further ones are closed without a word."""
SHARED_HANDSHAKE: Final = 0.2
"""Seconds that handshakes under way get to end when other gateways listen on the port: more than
most round trips; meanwhile this gateway's share of the new clients is made to wait a second."""
LAST_HANDSHAKE: Final = 0.01
"""The same where nobody else listens: it delays the refusal that new clients get."""


class Listener:
    """A listening socket and the connections accepted from it.

    :param tls: None: the listener speaks plain HTTP.
    :param http2_only: nobody is expected to speak HTTP/1.1.
    """

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits,
        tls: TlsSettings | None = None,
        *,
        http2_only: bool = False,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.tls = tls
        self._http2_only = http2_only
        self.draining = False
        self.connections: set[Connection] = set()
        self.accepted: set[AcceptedConnection] = set()
        """Connections on which TLS is not established yet."""
        self.now = asyncio.get_running_loop().time()
        """Seconds, as old as the last sweep: exact enough for timeouts of seconds."""
        self.port = 0
        self.closed: defaultdict[str, int] = defaultdict(int)
        """Why -> how many connections the gateway closed outside of an exchange."""
        self._turned_away: set[Connection] = set()
        self._at_rest: list[Connection | AcceptedConnection] | None = (
            None  # longest last; None: not known
        )
        self._shared = False  # with other processes on the same port
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> None:
        """Listens; ``host`` "" is every interface, ``port`` 0 any free one. Raises ``OSError``.

        :param reuse_port: other processes of this user may listen there too.
        """
        self._socket = _bind(host, port, reuse_port)
        self._shared = reuse_port
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=self._socket, backlog=BACKLOG)
        self.port = int(self._socket.getsockname()[1])
        self._sweep()

    def take_bodies_up_to(self, limit: int) -> None:
        """Another limit for request bodies, in bytes, also on connections that there are."""
        self.limits = replace(self.limits, body=limit)
        for connection in self.connections:
            connection.take_bodies_up_to(limit)

    def _accept(self) -> DownstreamConnection | ServerConnection | AcceptedConnection:
        if self.tls is not None:
            return AcceptedConnection(self, self.tls)
        return self.established(http2=self._http2_only)

    def established(self, *, http2: bool) -> DownstreamConnection | ServerConnection:
        """The protocol of a connection on which requests can come."""
        return ServerConnection(self) if http2 else DownstreamConnection(self)

    def go_on_in_http2(
        self, connection: Connection, transport: asyncio.Transport, early: bytes
    ) -> None:
        self.connections.discard(connection)
        successor = ServerConnection(self)
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(early)

    def add(self, connection: Connection) -> None:
        self.connections.add(connection)
        if self._too_many():
            self._one_too_many(connection)

    def add_accepted(self, accepted: AcceptedConnection) -> None:
        self.accepted.add(accepted)
        if not self._too_many():
            return
        if self._make_room():
            self.closed["made_room"] += 1
        else:  # to say so would take a handshake, the most that a client can cost unasked
            self.closed["turned_away"] += 1
            accepted.abort("too_many_connections")

    def _too_many(self) -> bool:
        established = len(self.connections) - len(self._turned_away)
        return established + len(self.accepted) > self.limits.connections

    def remove(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._turned_away.discard(connection)
        self._tell_if_empty()

    def remove_accepted(self, accepted: AcceptedConnection) -> None:
        self.accepted.discard(accepted)
        self._tell_if_empty()

    def _tell_if_empty(self) -> None:
        if not self.connections and not self.accepted:
            self._empty.set()

    def _one_too_many(self, newcomer: Connection) -> None:
        if self._make_room():
            self.closed["made_room"] += 1
            return
        self._turned_away.add(newcomer)
        if len(self._turned_away) <= MAX_TURNED_AWAY:
            newcomer.refuse_connection()
        else:
            self.closed["turned_away"] += 1
            newcomer.abort()

    def _make_room(self) -> bool:
        """Closes the connection that has been at rest for longest, if one has for long enough."""
        before = self.now - AT_REST
        if self._at_rest is None:  # once per sweep: newcomers may come faster than that is done
            everybody: list[Connection | AcceptedConnection] = [*self.connections, *self.accepted]
            resting = [one for one in everybody if one.at_rest_since <= before]
            self._at_rest = sorted(resting, key=lambda one: one.at_rest_since, reverse=True)
        while self._at_rest:
            if self._at_rest.pop().close_if_at_rest(before):
                return True
        return False

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_INTERVAL, self._sweep)
        self.check(loop.time())

    def check(self, now: float) -> None:
        """Looks at every connection; ``now`` is the loop's time."""
        self.now = now
        self._at_rest = None
        # What happened since the last look bears its time: nobody may be closed too early.
        before = now - SWEEP_INTERVAL
        http1 = False
        for connection in list(self.connections):
            connection.check(before, self.limits)
            if not http1 and isinstance(connection, DownstreamConnection):
                http1 = connection.at_rest_since > before - SWEEP_INTERVAL / 2
        run_queue().see(http1=http1, now=now)
        for accepted in list(self.accepted):
            accepted.check(before, self.limits.header_timeout)

    async def drain(self, timeout: float, idle_grace: float) -> None:
        """Accepts no more, lets every exchange finish, then closes; at most ``timeout`` seconds.

        A keep-alive connection that seems idle may have a request under way to us: it is kept for
        ``idle_grace`` seconds, so that this request is answered, with ``Connection: close``.
        """
        self.draining = True
        await self._accept_the_last()
        for connection in list(self.connections):
            connection.drain()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        patience = loop.time() + idle_grace
        while (self.connections or self.accepted) and loop.time() < deadline:
            self._empty.clear()
            try:
                wait = min(deadline - loop.time(), max(idle_grace, 0.05))
                await asyncio.wait_for(self._empty.wait(), wait)
            except TimeoutError:
                now = loop.time()
                for connection in list(self.connections):
                    connection.close_if_idle(now - idle_grace)
                if now >= patience:
                    for accepted in list(self.accepted):
                        accepted.close_if_silent()
        self.close()
        with suppress(TimeoutError):  # what was cut off is told, and logged, before all stops
            async with asyncio.timeout(LAST_WORDS):
                while self.connections:
                    self._empty.clear()
                    await self._empty.wait()

    async def _accept_the_last(self) -> None:
        """Takes over what the kernel has completed but nobody accepted; see ``handshakes``."""
        server, listening = self._server, self._socket
        if server is None or listening is None:
            return
        duplicate = listening.dup()  # closing the server closes only its own
        if not (self._shared and handshakes.move()):
            handshakes.stop(duplicate)
            await asyncio.sleep(SHARED_HANDSHAKE if self._shared else LAST_HANDSHAKE)
        server.close()
        self._server = self._socket = None
        loop = asyncio.get_running_loop()
        for queued in handshakes.take_queue(duplicate):
            with suppress(OSError):  # it has gone already
                await loop.connect_accepted_socket(self._accept, queued)

    def close(self) -> None:
        """Closes everything at once."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for accepted in list(self.accepted):
            accepted.abort("closed")
        for connection in list(self.connections):
            connection.cut()


def _bind(host: str, port: int, reuse_port: bool) -> socket.socket:
    """A listening socket; every interface means IPv6 with IPv4, or IPv4 where there is no IPv6."""
    create = partial(socket.create_server, backlog=BACKLOG, reuse_port=reuse_port)
    if not host and socket.has_dualstack_ipv6():
        return create(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return create(info[4][:2], family=info[0])
