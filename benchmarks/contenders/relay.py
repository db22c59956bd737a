"""Bytes from one side to the other, unread: what the event loop and the kernel take of all.

``python -m benchmarks.contenders.relay PORT ENDPOINT...``: each connection has one of its own to an
endpoint. No proxy in Python on uvloop can cost less.
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import cast

import uvloop

from benchmarks.contenders.arguments import BACKLOG, arguments


class Side(asyncio.Protocol):
    """One of two connections; what comes is written to the other one."""

    def __init__(self, other: Side | None, address: tuple[str, int] | None) -> None:
        self.other = other
        self.address = address
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.address is not None:
            self.task = asyncio.ensure_future(self._connect(*self.address))

    async def _connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        _, other = await loop.create_connection(lambda: Side(self, None), host, port)
        self.other = other
        for data in self.early:
            other.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


async def main() -> None:
    found = arguments()
    addresses = (each.split(":") for each in found.endpoints)
    endpoints = cycle([(host, int(port)) for host, port in addresses])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Side(None, next(endpoints)), "127.0.0.1", found.port, backlog=BACKLOG
    )
    await server.serve_forever()


uvloop.run(main())
