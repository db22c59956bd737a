"""A service that echoes WebSocket messages: ``python -m benchmarks.websocket_echo PORT...``.

Knows what benchmarks/websocket_load.py sends, of RFC 6455: messages of up to 125 bytes in one frame
each. Less than any library does, so that the core that it shares with the load is left to that.
"""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from hashlib import sha1
from typing import cast

import uvloop

MASKED_HEAD = 6
"""Bytes before the payload of a short frame from a client: flags, length, mask (section 5.2)."""
BINARY = 0x82
"""First byte of a binary message in one frame."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)


def accept(key: bytes) -> bytes:
    """What a server shows that it has read ``Sec-WebSocket-Key`` (section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def masked(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with the four bytes of ``mask`` over it; the same again takes them off."""
    size = len(payload)
    over = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(over)).to_bytes(size)


class Echo(asyncio.Protocol):
    """One connection: a handshake, then messages."""

    def __init__(self) -> None:
        self._received = b""
        self._switched = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._switched:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._received, self._switched = rest, True
            lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
            fields = {name.lower(): value.strip() for name, _, value in lines}
            if fields.get(b"upgrade", b"").lower() != b"websocket":
                self._transport.abort()
                return
            key = fields[b"sec-websocket-key"]
            self._transport.write(_SWITCH % accept(key))
        self._echo()

    def _echo(self) -> None:
        received = self._received
        while len(received) >= MASKED_HEAD:
            length = received[1] & 0x7F
            if length > 125 or received[0] != BINARY:
                self._transport.abort()
                return
            end = MASKED_HEAD + length
            if len(received) < end:
                break
            payload = masked(received[MASKED_HEAD:end], received[2:MASKED_HEAD])
            self._transport.write(bytes((BINARY, length)) + payload)
            received = received[end:]
        self._received = received


async def main() -> None:
    loop = asyncio.get_running_loop()
    for port in sys.argv[1:]:
        await loop.create_server(Echo, "127.0.0.1", int(port), backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
