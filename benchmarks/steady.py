"""Load at a constant rate: ``python -m benchmarks.steady PORT RATE SECONDS CONNECTIONS``.

wrk sends the next request when the last one is answered, so a proxy that stalls for 200 ms delays
one request of each connection, and all those that should have come meanwhile are never counted
("coordinated omission"). Here every millisecond brings its share of requests, whatever became of
those before, and the time of each counts from the moment at which it was due: also what it waited
for a connection. Prints one line ``RESULT {...}``.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import struct
import sys
from collections import deque
from statistics import median
from time import perf_counter, time
from typing import cast

import uvloop

from benchmarks.servers import tokens

TICK = 0.001
"""Seconds between two batches of requests."""
WARM_UP = 0.5
"""Seconds at the beginning that do not count."""
SPAN = 0.1
"""Seconds of which each has percentiles of its own."""
LAST_ANSWERS = 2.0
"""Seconds after the end in which answers are waited for; those that do not come are errors."""

_CLOCK_MONOTONIC = 1
_NONBLOCK = 0o4000


def percentile(sorted_values: list[float], share: float) -> float:
    """The least value that ``share`` (0 to 1) of all do not exceed; 0 if there are none."""
    if not sorted_values:
        return 0.0
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def typical_p99(samples: list[tuple[float, float]]) -> float:
    """The 99th percentile within a SPAN, of the median of all: what the requests have of what is
    measured. In that of all together a few stalls of the machine's decide, each as much as the
    process was busy: what has waited for one is in the way of what comes after it.

    :param samples: (when it was due, how long it took) of each, in seconds.
    """
    spans: dict[int, list[float]] = {}
    for due, seconds in samples:
        spans.setdefault(int(due / SPAN), []).append(seconds)
    if not spans:
        return 0.0
    return median(percentile(sorted(times), 0.99) for times in spans.values())


def shares(rate: float, ticks: int) -> list[int]:
    """How many requests each tick brings, so that after any of them the rate has been kept."""
    due = [int(rate * TICK * (number + 1)) for number in range(ticks)]
    return [now - before for before, now in zip([0, *due], due, strict=False)]


class Connection(asyncio.Protocol):
    """One connection, which has at most one request on its way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.due = 0.0
        self.missing = 0  # bytes of the answer; 0: the head has not come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, due: float) -> None:
        self.due = due
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        if not self.missing:  # a head is small enough to come in one piece
            head = data.find(b"\r\n\r\n") + 4
            lower = data[:head].lower()
            length = lower.partition(b"content-length:")[2].partition(b"\r\n")[0]
            if head < 4 or not data.startswith(b"HTTP/1.1 200 ") or not length:
                self.load.errors += 1
                self.transport.abort()
                return
            self.missing = head + int(length)
        self.missing -= len(data)
        if not self.missing:
            self.load.answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost()


class Load:
    """All connections, and what waits for one."""

    def __init__(self, rate: float, seconds: float) -> None:
        shown = tokens(time())
        self._requests = [
            (
                f"GET /api/v1/users/{1000 + i}?page={i}&sort=name HTTP/1.1\r\n"
                "Host: api.example.com\r\n"
                "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/126.0.0.0 Safari/537.36\r\n"
                "Accept: application/json, text/plain, */*\r\n"
                "Accept-Encoding: gzip, deflate, br, zstd\r\n"
                "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
                f"Authorization: Bearer {shown[i % len(shown)]}\r\n"
                "Cookie: session=4f1c9a7d2e8b4c56a0d3; theme=dark; consent=1\r\n"
                "Referer: https://app.example.com/users?page=1\r\n"
                "Cache-Control: no-cache\r\n"
                f"X-Request-ID: 0190a5f2-7c4e-7b1a-9d3e-{i:012x}\r\n"
                "X-Client-Version: web/4.18.2\r\n\r\n"
            ).encode()
            for i in range(64)
        ]
        self._shares = shares(rate, int(seconds / TICK))
        self._sent = self._ticks = 0
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()
        self._over = False
        self.samples: list[tuple[float, float]] = []
        """When each was due, and how long it took, in seconds."""
        self.errors = 0
        self.done = asyncio.Event()

    def next_request(self) -> bytes:
        self._sent += 1
        return self._requests[self._sent & 63]

    def answered(self, connection: Connection) -> None:
        now = perf_counter()
        if connection.due >= self._counted_from:
            self.samples.append((connection.due, now - connection.due))
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)
            if self._ticks == len(self._shares) and len(self._idle) == self._connections:
                self.done.set()

    def lost(self) -> None:
        if not self._over:
            self.errors += 1
            self.done.set()

    async def run(self, port: int, connections: int) -> None:
        loop = asyncio.get_running_loop()
        self._connections = connections
        for _ in range(connections):
            _, one = await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
            self._idle.append(one)
        ticks = timer(TICK)
        self._started = perf_counter()
        self._counted_from = self._started + WARM_UP
        loop.add_reader(ticks, self._tick, ticks)
        try:
            await asyncio.wait_for(self.done.wait(), len(self._shares) * TICK + LAST_ANSWERS)
        except TimeoutError:
            self.errors += 1
        self._over = True
        loop.remove_reader(ticks)

    def _tick(self, ticks: int) -> None:
        for _ in range(expirations(ticks)):
            if self._ticks == len(self._shares):
                return
            due = self._started + (self._ticks + 1) * TICK
            for _ in range(self._shares[self._ticks]):
                if self._idle:
                    self._idle.pop().send(due)
                else:
                    self._waiting.append(due)
            self._ticks += 1


def timer(seconds: float) -> int:
    """A file that can be read so often (timerfd_create(2)): the loop's own timers know whole
    milliseconds and are late by as much."""
    libc = ctypes.CDLL(None, use_errno=True)
    file = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
    interval = struct.pack("qqqq", 0, int(seconds * 1e9), 0, int(seconds * 1e9))
    if file < 0 or libc.timerfd_settime(file, 0, interval, None) < 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return int(file)


def expirations(file: int) -> int:
    """How often a timer has expired since it was last asked; asked when it can be read."""
    (expired,) = struct.unpack("Q", os.read(file, 8))
    return int(expired)


async def main() -> None:
    port, rate, seconds, connections = sys.argv[1:]
    load = Load(float(rate), float(seconds))
    await load.run(int(port), int(connections))
    times = sorted(seconds for _, seconds in load.samples)
    found = {
        "requests": len(times),
        "errors": load.errors,
        "p50_ms": percentile(times, 0.5) * 1e3,
        "p99_ms": percentile(times, 0.99) * 1e3,
        "typical_p99_ms": typical_p99(load.samples) * 1e3,
        "p999_ms": percentile(times, 0.999) * 1e3,
    }
    print(f"RESULT {json.dumps(found)}")


if __name__ == "__main__":
    uvloop.run(main())
