"""What the loads of HTTP/2 have in common: prepared header blocks, and connections until the end.

Each call has a request id and a trace context of its own, as real ones do, encoded as clients of
gRPC encode them: fields enter the dynamic table (h2load sends the same header again and again,
which every proxy decodes in no time). Encoding takes longer than the calls, so it is done once for
all rounds, and the blocks are in a file of the working directory.
"""

from __future__ import annotations

import asyncio
import json
import marshal
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import cast

import hpack

from benchmarks.grpc.wire import GREETING, MESSAGE, Speaker
from benchmarks.steady import percentile
from siger_gateway.http2.frames import PREFACE

FILE = "header-blocks"
LAST_ANSWERS = 10.0
"""Seconds after the end in which answers are waited for."""


def prepare(folder: Path, connections: int, calls: int) -> None:
    """Writes the header blocks of so many calls, in all, to FILE."""
    count = calls // connections
    found = [blocks(count, number * count) for number in range(connections)]
    (folder / FILE).write_bytes(marshal.dumps(found))


def prepared() -> list[list[bytes]]:
    """Header blocks for each connection, in the order in which they have to be sent."""
    return cast(list[list[bytes]], marshal.loads(Path(FILE).read_bytes()))


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


class Client(Speaker):
    """One connection of a load."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self.load = load
        self.began: dict[int, float] = {}
        """By stream: when the call, or the message, was sent that is not answered yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(PREFACE + GREETING)

    def on_fault(self, kind: int, payload: bytes) -> None:
        self.load.errors += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.errors += len(self.began)
        self.load.finish(self)


class Load:
    """All connections: until when they go on, and what they have seen."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._over = asyncio.Event()
        self._open: set[Client] = set()
        self.until = 0.0
        self.times: list[float] = []
        """Seconds, of each call or message."""
        self.errors = 0

    def end(self) -> None:
        """Begins nothing more."""
        self.until = 0.0

    def finish(self, client: Client) -> None:
        """Of this connection nothing is on its way any more."""
        self._open.discard(client)
        if not self._open:
            self._over.set()

    async def run(
        self, port: int, clients: Sequence[Client], begin: Callable[[float], object]
    ) -> None:
        """Prints ``STARTED`` and, when the seconds are over or after SIGTERM, ``RESULT {...}``.

        :param begin: called once, with the time, when all are connected.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.end)
        self._open.update(clients)
        for one in clients:
            await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]
        began = perf_counter()
        self.until = began + self._seconds
        print("STARTED", flush=True)
        begin(began)
        await asyncio.wait_for(self._over.wait(), self._seconds + LAST_ANSWERS)
        if sum(one.received for one in clients) != len(self.times) * len(MESSAGE):
            self.errors += 1  # a fast error is no throughput
        print_result(self.times, perf_counter() - began, self.errors)


def print_result(times: list[float], seconds: float, errors: int) -> None:
    """What the benchmark reads of a load.

    :param times: seconds, of each call.
    """
    times.sort()
    found = {
        "calls": len(times),
        "seconds": seconds,
        "errors": errors,
        "p50_ms": percentile(times, 0.5) * 1e3,
        "p99_ms": percentile(times, 0.99) * 1e3,
    }
    print("RESULT " + json.dumps(found), flush=True)
