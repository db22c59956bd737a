"""Load of WebSocket messages: ``python -m benchmarks.websocket_load PORT SECONDS CONNECTIONS``.

Each connection sends a message and waits for its echo before it sends the next one. wrk speaks no
WebSocket; a load in Python costs more than the proxies that it loads, so it is they who wait: their
CPU time for each message is right all the same, messages per second are those of the load. Prints
one line ``RESULT {...}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from base64 import b64encode
from pathlib import Path
from time import perf_counter
from typing import cast

import uvloop

from benchmarks.load import LoadResult
from benchmarks.processes import Child, Children, ProcessError
from benchmarks.servers import ROOT
from benchmarks.steady import percentile
from benchmarks.websocket_echo import BINARY, accept, masked

MESSAGE_SIZE = 64
"""Bytes: a line of a chat, a tick of a price."""
START = 10.0
"""Seconds that all connections have to switch protocols."""
GRACE = 15.0
"""Seconds that the program may take beyond its duration before it counts as stuck."""

_KEY = b64encode(bytes(range(16)))
_ASK = (
    b"GET /chat HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n" % _KEY
)


class Connection(asyncio.Protocol):
    """One connection, with one message on its way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        payload = random.randbytes(MESSAGE_SIZE)
        # A mask of its own for each message keeps scripts of browsers from writing what a cache
        # would take for HTTP (section 10.3); there are none here.
        mask = random.randbytes(4)
        head = bytes((BINARY, 0x80 | MESSAGE_SIZE)) + mask
        self._message = head + masked(payload, mask)
        self._echo = bytes((BINARY, MESSAGE_SIZE)) + payload
        self._received = b""
        self.switched = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(_ASK)

    def send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.switched.done():
            if b"\r\n\r\n" in self._received:
                if has_switched(self._received):
                    self.switched.set_result(None)
                else:
                    self.switched.set_exception(ProcessError(f"answered {self._received!r}"))
                self._received = b""
        elif len(self._received) >= len(self._echo):
            good = self._received == self._echo
            self._received = b""
            self._load.echoed(self, self._sent, good)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.switched.done():
            self.switched.set_exception(ProcessError("closed before it switched protocols"))
        self._load.lost()


class Load:
    """All connections, from the first message to the last."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = False
        self.times: list[float] = []
        self.errors = 0

    def echoed(self, connection: Connection, sent: float, good: bool) -> None:
        self.times.append(perf_counter() - sent)
        self.errors += not good
        if not self._over:
            connection.send()

    def lost(self) -> None:
        self.errors += not self._over

    async def run(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        opened = []
        async with asyncio.timeout(START):
            for _ in range(connections):
                _, one = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
                opened.append(one)
                await one.switched
        for one in opened:
            one.send()
        await asyncio.sleep(self._seconds)
        self._over = True


def has_switched(head: bytes) -> bool:
    """Whether it is a 101 of somebody who has read the key."""
    return head.startswith(b"HTTP/1.1 101 ") and accept(_KEY) in head


def probe(port: int) -> None:
    """One handshake. Raises ProcessError or OSError unless the echo's own answer comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(_ASK)
        head = b""
        while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
            head += data
    if not has_switched(head):
        raise ProcessError(f"answered {head[:200]!r}")


def run_websocket_load(
    children: Children, *, port: int, connections: int, seconds: int, core: int
) -> LoadResult:
    """As ``run_load``, with messages for requests."""
    words = [str(port), str(seconds), str(connections)]
    load = _start(children, "websocket_load", words, core)
    return LoadResult(**load.result(seconds + GRACE))


def start_echo(children: Children, ports: tuple[int, int], core: int) -> Child:
    """The service, on both ports."""
    return _start(children, "websocket_echo", [str(port) for port in ports], core)


def _start(children: Children, module: str, words: list[str], core: int) -> Child:
    argv: list[str | Path] = [sys.executable, "-m", f"benchmarks.{module}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return children.start(module, argv, core=core, environment=environment)


async def main() -> None:
    port, seconds, connections = sys.argv[1:]
    load = Load(float(seconds))
    await load.run(int(port), int(connections))
    times = sorted(load.times)
    found = {
        "requests": len(times),
        "seconds": float(seconds),
        "p50_us": percentile(times, 0.5) * 1e6,
        "p99_us": percentile(times, 0.99) * 1e6,
        "errors": load.errors,
    }
    print(f"RESULT {json.dumps(found)}")


if __name__ == "__main__":
    uvloop.run(main())
