"""A stream as a transport: what follows an extended CONNECT (RFC 8441).

A WebSocket in HTTP/2 is a stream whose DATA are the bytes that HTTP/1.1 would carry after its 101.
To ``proxy.tunnel`` both look alike, so any of the two can be on either side.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from hashlib import sha1
from os import urandom
from typing import Any, Final, cast

from siger_gateway.http2.stream import Stream

WEBSOCKET: Final = b"websocket"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class StreamTransport(asyncio.Transport):
    """Lets an ``asyncio`` protocol read and write one stream.

    :param early: what has come in the meantime is the caller's to hand on.
    """

    def __init__(self, stream: Stream, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = cast(asyncio.Protocol, protocol)
        self._paused = True  # until it begins: then there is credit for what has come early
        self._ended_here = False
        self._ended_there = False
        self._lost = False

    # Of the stream.

    def on_data(self, data: bytes, *, ends: bool) -> None:
        """DATA of the stream; those who read have it before there is credit for more."""
        if self._lost:
            return
        if data:
            self._protocol.data_received(data)
        if ends:
            self._ended_there = True
            if not self._protocol.eof_received():
                self.close()
            self._look_if_over()
        elif not self._paused:
            self._stream.credit()

    def on_wait(self) -> None:
        self._protocol.pause_writing()

    def on_room(self) -> None:
        self._protocol.resume_writing()

    def on_sent(self) -> None:
        """The end of our side is on its way."""
        self._look_if_over()

    def lose(self, error: Exception | None) -> None:
        """The stream is over. The protocol hears of it in the loop's next turn."""
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    def _look_if_over(self) -> None:
        if self._ended_here and self._ended_there and not self._stream.is_waiting:
            self._stream.leave()
            self.lose(None)

    # Of the protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not (self._lost or self._ended_here) and data:
            self._stream.put_data(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._lost or self._ended_here):
            self._ended_here = True
            self._stream.put_last()

    def close(self) -> None:
        """What waits is sent; what still comes is not wanted."""
        self.write_eof()
        self._ended_there = True
        if not self._lost:
            self._look_if_over()

    def abort(self) -> None:
        if not self._lost:
            self._stream.give_up()
            self.lose(None)

    def is_closing(self) -> bool:
        return self._lost or self._ended_here

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not (self._lost or self._ended_there):
                self._stream.credit()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def new_key() -> bytes:
    """A ``Sec-WebSocket-Key``, for a service that speaks HTTP/1.1 (RFC 6455 section 4.1)."""
    return b64encode(urandom(16))


def accept_of(key: bytes) -> bytes:
    """The ``Sec-WebSocket-Accept`` that answers ``key``."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())
