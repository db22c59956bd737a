"""Unary calls: ``python -m benchmarks.grpc.unary PORT SECONDS CONNECTIONS STREAMS [RATE]``.

Without a rate the next call comes when one is answered, so many at a time on each connection. With
one, so many come each second, on the connections in turn, whatever became of those before.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

import uvloop

from benchmarks.grpc.load import Client, Load, prepared
from benchmarks.grpc.wire import MESSAGE
from benchmarks.steady import expirations, timer
from siger_gateway.http2.frames import data_frame, headers_frames

TICK = 0.00037
"""Seconds between two looks at what is due: out of step with the milliseconds of steady.py."""


class Caller(Client):
    """One connection with so many streams at a time, at most; somebody says when to call."""

    def __init__(self, load: Load, blocks: list[bytes], streams: int) -> None:
        super().__init__(load)
        self._blocks = iter(blocks)
        self._streams = streams
        self._next = 1

    def call(self, count: int) -> int:
        """Sends up to so many calls, and says how many. When the blocks are used up, all ends."""
        out = []
        now = perf_counter()
        sent = min(count, self._streams - len(self.began))
        for _ in range(sent):
            block = next(self._blocks, None)
            if block is None:
                self.load.end()
                break
            self.began[self._next] = now
            out.append(headers_frames(self._next, block, False, 16384))
            out.append(data_frame(self._next, MESSAGE, True))
            self._next += 2
        self.transport.write(b"".join(out))
        return sent

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        now = perf_counter()
        for stream_id, _ in ended:
            began = self.began.pop(stream_id, None)
            if began is not None:
                self.load.times.append(now - began)
        if now < self.load.until:
            self.on_answers(len(ended))
        if not self.began and now >= self.load.until:
            self.load.finish(self)

    def on_answers(self, count: int) -> None:
        """So many calls are over."""


class EagerCaller(Caller):
    """The next call when one is answered."""

    def on_answers(self, count: int) -> None:
        self.call(count)


class Pace:
    """Calls at a constant rate, on the connections in turn."""

    def __init__(self, load: Load, callers: list[Caller], rate: float) -> None:
        self._load = load
        self._callers = callers
        self._rate = rate
        self._sent = 0
        self._turn = 0

    def begin(self, now: float) -> None:
        self._began = now
        ticks = timer(TICK)
        asyncio.get_running_loop().add_reader(ticks, self._tick, ticks)

    def _tick(self, ticks: int) -> None:
        expirations(ticks)
        now = perf_counter()
        if now < self._load.until:
            self._turn = (self._turn + 1) % len(self._callers)
            due = int((now - self._began) * self._rate) - self._sent
            self._sent += self._callers[self._turn].call(due)
            return
        asyncio.get_running_loop().remove_reader(ticks)
        for one in self._callers:
            if not one.began:
                self._load.finish(one)


async def main() -> None:
    port, seconds, connections, streams, *rate = sys.argv[1:]
    load = Load(float(seconds))
    kind = Caller if rate else EagerCaller
    callers = [kind(load, blocks, int(streams)) for blocks in prepared()[: int(connections)]]

    def begin(now: float) -> None:
        if rate:
            Pace(load, callers, float(rate[0])).begin(now)
        else:
            for one in callers:
                one.call(int(streams))

    await load.run(int(port), callers, begin)


if __name__ == "__main__":
    uvloop.run(main())
