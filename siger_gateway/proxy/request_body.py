"""The body of a request between its client and the attempts to send it.

It is sent as it comes. What comes before there is a connection waits here, and of a request that
may be sent again what has been sent is kept too, up to ``REPLAY_LIMIT``.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.http.headers import Headers
from siger_gateway.proxy.retry import IDEMPOTENT
from siger_gateway.upstream.pool import AnyConnection

REPLAY_LIMIT: Final = 64 * 1024
"""Bytes that are kept to be sent again; nginx keeps 16 KiB in memory."""


class RequestBody:
    """The body of one request that has one."""

    __slots__ = ("_keeps", "_pieces", "_sent", "trailers")

    def __init__(self, method: bytes, *, refusable: bool) -> None:
        """:param refusable: a service may refuse it after it has been sent, without having looked:
        HTTP/2 can say so."""
        self._keeps = refusable or method in IDEMPOTENT
        self._pieces: list[bytes] = []
        self._sent = 0  # bytes, of the current attempt
        self.trailers: Headers | None = None
        """None until the end of the body has come."""

    @property
    def replayable(self) -> bool:
        """Whether nothing is missing of what has been sent."""
        return self._keeps or not self._sent

    def hold(self, data: bytes) -> None:
        """There is no connection yet."""
        self._pieces.append(data)

    def send(self, data: bytes, connection: AnyConnection) -> None:
        connection.write_data(data)
        self._sent += len(data)
        if self._keeps:
            self._pieces.append(data)
            if self._sent > REPLAY_LIMIT:
                self._keeps = False
                self._pieces.clear()

    def send_held(self, connection: AnyConnection) -> None:
        """Sends all that there is on a new connection."""
        pieces, self._pieces, self._sent = self._pieces, [], 0
        for data in pieces:
            self.send(data, connection)
        if self.trailers is not None:
            connection.write_end(self.trailers)

    def end(self, trailers: Headers, connection: AnyConnection | None) -> None:
        self.trailers = trailers
        if connection is not None:
            connection.write_end(trailers)
