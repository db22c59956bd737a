"""Unary calls: ``python -m benchmarks.grpc.load PORT SECONDS CONNECTIONS STREAMS [RATE]``.

Each call has a request id and a trace context of its own, as real ones do, encoded as clients of
gRPC encode them: fields enter the dynamic table (h2load sends the same header again and again,
which every proxy decodes in no time). With a rate, every millisecond brings its share of so many
calls a second; without one, a call follows each that has ended. Prints ``RESULT {...}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import cycle
from math import inf
from time import perf_counter

import hpack
import uvloop

from benchmarks.grpc.wire import GREETING, MESSAGE, Speaker
from benchmarks.steady import TICK, shares
from siger_gateway.http2.frames import PREFACE, data_frame, headers_frames

PREPARED = 40_000
"""Calls of a second, in all, that are prepared where there is no rate."""
LATEST = 1.0
"""Seconds behind the clock at which the rate is given up."""


def blocks(count: int, first: int) -> list[bytes]:
    """Header blocks of so many calls, for one connection, in this order."""
    encoder = hpack.Encoder()
    fixed = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/bench.Echo/Say"),
        (":authority", "api.example.com"),
        ("content-type", "application/grpc"),
        ("user-agent", "grpc-python/1.85.1 grpc-c/52.0.0 (linux; chttp2)"),
        ("te", "trailers"),
        ("grpc-accept-encoding", "identity, deflate, gzip"),
        ("authorization", "Bearer 4f1c9a7d2e8b4c56a0d3e8b4c56a0d3e"),
    ]
    return [
        encoder.encode(
            [
                *fixed,
                ("x-request-id", f"0190a5f2-7c4e-7b1a-9d3e-{number:012x}"),
                ("traceparent", f"00-{number * 0x9E3779B97F4A7C15 % 2**128:032x}-{number:016x}-01"),
            ]
        )
        for number in range(first, first + count)
    ]


class Caller(Speaker):
    """One connection with so many streams at a time."""

    def __init__(self, load: Load, prepared: list[bytes], streams: int) -> None:
        super().__init__()
        self._load = load
        self._prepared = iter(prepared)
        self._streams = streams
        self._next = 1
        self._began: dict[int, float] = {}

    def start(self) -> None:
        self.transport.write(PREFACE + GREETING)
        if not self._load.paced:
            self.call(self._streams)

    def call(self, count: int) -> None:
        out = []
        now = perf_counter()
        for block in self._prepared:
            stream_id = self._next
            self._next += 2
            self._began[stream_id] = now
            out.append(headers_frames(stream_id, block, False, 16384))
            out.append(data_frame(stream_id, MESSAGE, True))
            count -= 1
            if not count:
                break
        else:
            self._load.used_up = True
        self.transport.write(b"".join(out))

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        now = perf_counter()
        load = self._load
        for stream_id, _ in ended:
            began = self._began.pop(stream_id, None)
            if began is not None:
                load.times.append(now - began)
        if now < load.until and not load.used_up and not load.paced:
            self.call(len(ended))
        if now >= load.until or load.used_up:
            self.end()

    def end(self) -> None:
        """The time is over; the last calls are waited for."""
        if not self._began:
            self._load.done(self)

    def on_fault(self, kind: int, payload: bytes) -> None:
        self._load.errors += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._began:
            self._load.errors += len(self._began)
            self._load.done(self)


class Load:
    """All connections."""

    def __init__(self) -> None:
        self.paced = False
        """Whether calls come by the clock."""
        self.until = 0.0
        self.times: list[float] = []
        self.errors = 0
        self.bytes = 0
        self.used_up = False
        self._running: set[Caller] = set()
        self._over = asyncio.Event()

    def done(self, caller: Caller) -> None:
        if caller in self._running:
            self._running.discard(caller)
            self.bytes += caller.received
        if not self._running:
            self._over.set()

    async def run(
        self, port: int, seconds: float, connections: int, streams: int, rate: float = 0.0
    ) -> None:
        loop = asyncio.get_running_loop()
        self.paced = rate > 0.0
        count = int((rate * 1.1 or PREPARED) * seconds / connections)
        for number in range(connections):
            prepared = blocks(count, number * count)
            _, caller = await loop.create_connection(
                lambda prepared=prepared: Caller(self, prepared, streams),  # type: ignore[misc]
                "127.0.0.1",
                port,
            )
            self._running.add(caller)
        print("STARTED", flush=True)
        self._started = perf_counter()
        self.until = inf if self.paced else self._started + seconds
        for caller in list(self._running):
            caller.start()
        if self.paced:
            await self._by_the_clock(shares(rate, int(seconds / TICK)))
        await asyncio.wait_for(self._over.wait(), seconds + 10)
        elapsed = perf_counter() - self._started
        times = sorted(self.times)
        if self.bytes != len(times) * len(MESSAGE):  # a fast error is no throughput
            self.errors += 1
        found = {
            "calls": len(times),
            "seconds": elapsed,
            "errors": self.errors,
            "p50_ms": times[len(times) // 2] * 1e3 if times else 0,
            "p99_ms": times[int(len(times) * 0.99)] * 1e3 if times else 0,
        }
        print("RESULT " + json.dumps(found), flush=True)

    async def _by_the_clock(self, due: list[int]) -> None:
        """Calls so many each ``TICK``, the connections by turns."""
        callers = cycle(list(self._running))
        for number, count in enumerate(due, 1):
            late = perf_counter() - self._started - number * TICK
            if late < 0.0:
                await asyncio.sleep(-late)
            elif late > LATEST:  # it cannot keep the rate here
                break
            if count:
                next(callers).call(count)
        self.until = 0.0
        for caller in list(self._running):
            caller.end()


if __name__ == "__main__":
    port, seconds, connections, streams, *rate = sys.argv[1:]
    uvloop.run(
        Load().run(int(port), float(seconds), int(connections), int(streams), *map(float, rate))
    )
