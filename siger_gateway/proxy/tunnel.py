"""After an Upgrade (RFC 9110 section 7.8): bytes both ways, in a protocol that is not ours to read.

Each side of the tunnel takes over its connection's transport and writes what it gets into the
other one. The end of one direction is passed on as an end (a half-close), and the other direction
goes on; a broken side breaks the other, with a reset, for an orderly end would say that nothing is
missing. Whoever reads slowly stalls the other side's sender: at the
high water of a transport's buffer the other transport is not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from siger_gateway.http.stream import HandedOver, reset_when_closed
from siger_gateway.http.timeouts import TimeoutQueue


class Side(asyncio.Protocol):
    """One end of a tunnel.

    ``sent`` counts the bytes that have come from it.
    """

    __slots__ = ("_tunnel", "at_end", "lost", "other", "reason", "sent", "wire")

    other: Side
    wire: HandedOver

    def __init__(self, tunnel: Tunnel, reason: str) -> None:
        """:param reason: what it is called when this side breaks."""
        self._tunnel = tunnel
        self.reason = reason
        self.sent = 0
        self.at_end = False
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.sent += len(data)
        self._tunnel.touch()
        self.other.wire.transport.write(data)

    def eof_received(self) -> bool:
        self.at_end = True
        transport = self.other.wire.transport
        if self.other.at_end or not transport.can_write_eof():
            # Both ends are there, or the end cannot be told but by closing.
            transport.close()
            return False
        if not self.other.lost:
            transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._tunnel.on_side_lost(self, exc)  # first: a drain is over when the wire has closed
        self.wire.closed(exc)

    def pause_writing(self) -> None:
        self.other.wire.transport.pause_reading()

    def resume_writing(self) -> None:
        if not (self.other.lost or self.other.at_end):
            self._tunnel.touch()  # what waited has been read
            self.other.wire.transport.resume_reading()

    def reset(self) -> None:
        if not self.lost:
            reset_when_closed(self.wire.transport)
            self.wire.transport.abort()


class Tunnel:
    """Two sides and the silence between them.

    :param idle: how long both may be silent; None: for ever.
    :param ended: called once, when both sides are closed, with the reason of a bad end or "".
    """

    def __init__(self, idle: TimeoutQueue | None, ended: Callable[[Tunnel, str], None]) -> None:
        self.client = Side(self, "downstream_closed")
        self.service = Side(self, "upstream_reset")
        self.client.other, self.service.other = self.service, self.client
        self._idle = idle
        self._ended = ended
        self._reason = ""

    def __repr__(self) -> str:
        return f"<Tunnel {self.client.sent} bytes up, {self.service.sent} down>"

    def begin(self, client: HandedOver, service: HandedOver) -> None:
        """Lets it flow; both transports may be paused."""
        self.client.wire, self.service.wire = client, service
        self.touch()
        for side in (self.client, self.service):
            if side.wire.early:
                side.data_received(side.wire.early)
        for side in (self.client, self.service):
            side.wire.transport.resume_reading()

    def touch(self) -> None:
        if self._idle is not None:
            self._idle.again(self)

    def on_timeout(self, queue: TimeoutQueue) -> None:
        self._break("stream_idle_timeout")

    def on_side_lost(self, side: Side, exc: Exception | None) -> None:
        if side.other.lost:
            if self._idle is not None:
                self._idle.discard(self)
            self._ended(self, self._reason)
        elif side.at_end and side.other.at_end:
            pass  # nothing was left to say, and the other side closes too
        elif exc is None and (side.at_end or side.other.at_end):
            side.other.wire.transport.close()
        elif exc is None:  # nobody but the listener ends a connection like that
            self._break("draining")
        else:
            self._break(side.reason)

    def _break(self, reason: str) -> None:
        self._reason = self._reason or reason
        self.client.reset()
        self.service.reset()
