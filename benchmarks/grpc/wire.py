"""The little of HTTP/2 that the load and the backend of this benchmark speak: prepared bytes.

Both have to cost less than the proxies between them, so frames are written beforehand and only get
their stream ids; of what comes, nothing is looked at but frame headers.
"""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Final, cast

from siger_gateway.http2.frames import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    PING,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    ping_ack,
    settings_frame,
    window_update,
)

HEAD: Final = Struct(">HBBBL")
WINDOW: Final = 2**30
"""Bytes: nothing here ever waits for a window."""
GREETING: Final = settings_frame(
    [(INITIAL_WINDOW_SIZE, WINDOW), (MAX_CONCURRENT_STREAMS, 1000)]
) + window_update(0, WINDOW)

MESSAGE: Final = b"\0\0\0\0\x40" + b"m" * 64
"""A gRPC message of 64 bytes, not compressed."""


class Speaker(asyncio.Protocol):
    """Reads frame headers; subclasses say what to do when a stream has ended."""

    def __init__(self) -> None:
        self._rest = b""
        self.received = 0
        """Bytes of DATA."""
        self._credited = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        position, end = 0, len(data)
        ended = []
        pieces = []
        while end - position >= 9:
            high, low, kind, flags, stream_id = HEAD.unpack_from(data, position)
            stop = position + 9 + (high << 8 | low)
            if stop > end:
                break
            if kind in (DATA, HEADERS):
                if kind == DATA:
                    self.received += stop - position - 9
                    pieces.append((stream_id, stop - position - 9))
                if flags & END_STREAM:
                    ended.append((stream_id, data[position + 9 : stop]))
            elif kind == SETTINGS:
                if not flags:
                    self.transport.write(SETTINGS_ACK)
            elif kind == PING and not flags:
                self.transport.write(ping_ack(data[position + 9 : stop]))
            elif kind in (RST_STREAM, GOAWAY):
                self.on_fault(kind, data[position + 9 : stop])
            position = stop
        self._rest = data[position:]
        if self.received - self._credited > WINDOW // 4:
            self.transport.write(window_update(0, self.received - self._credited))
            self._credited = self.received
        self.on_data(pieces)
        if ended:
            self.on_ended(ended)

    def on_data(self, pieces: list[tuple[int, int]]) -> None:
        """DATA of these streams has come, so many bytes each time."""

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        """These streams have ended, each with the payload of its last frame."""

    def on_fault(self, kind: int, payload: bytes) -> None:
        """The other side has reset a stream, or leaves."""
