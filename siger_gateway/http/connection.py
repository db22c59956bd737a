"""What a listener and the connections that it has accepted know of each other, on either wire."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol

from siger_gateway.http.stream import Handler


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bytes and seconds; see ``config.schema.LimitsConfig``."""

    header_bytes: int
    body: int
    header_timeout: float
    idle_timeout: float
    connections: int
    header_count: int
    body_rate: int = 0
    """Bytes per second that a request body has to bring on average, with ``idle_timeout`` as its
    credit; Kestrel and Apache's mod_reqtimeout have such a rule."""


class Connection(Protocol):
    """An established connection, as its listener sees it."""

    def take_bodies_up_to(self, limit: int) -> None:
        """From the next request on, ``limit`` bytes of a body are taken."""

    def check(self, now: float, limits: ServerLimits) -> None:
        """Closes the connection when it has overstayed; ``now`` as the listener's clock has it."""

    def drain(self) -> None:
        """A drain begins: no more requests are wanted."""

    def close_if_idle(self, idle_since: float) -> None:
        """For a drain: closes a connection on which nothing came after ``idle_since``."""

    @property
    def at_rest_since(self) -> float:
        """Since when there is neither an exchange nor a whole head; "infinity" while there is."""

    def close_if_at_rest(self, before: float) -> bool:
        """Makes room if still at rest; a head that is slow to come is too. Whether it did."""

    def refuse_connection(self) -> None:
        """It is one connection too many."""

    def abort(self) -> None:
        """Closes at once, without a word."""

    def cut(self) -> None:
        """For the end of a drain: closes at once; an exchange is told, so that it is accounted."""


class Acceptor(Protocol):
    """A listener, as its connections see it."""

    handler: Handler
    limits: ServerLimits
    draining: bool
    now: float
    """Seconds, as old as the last look at all connections."""
    closed: defaultdict[str, int]
    """Why -> how many connections the gateway closed outside of an exchange."""

    def add(self, connection: Connection) -> None: ...

    def remove(self, connection: Connection) -> None: ...

    def go_on_in_http2(
        self, connection: Connection, transport: asyncio.Transport, early: bytes
    ) -> None:
        """``connection`` has turned out to speak HTTP/2.

        :param early: all that has come.
        """
