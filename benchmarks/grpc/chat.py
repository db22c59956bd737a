"""Streams that stay: ``python -m benchmarks.grpc.chat PORT SECONDS CONNECTIONS STREAMS``.

On each stream the next message follows the answer to the last, so what is measured is a message in
each direction, without any of what opens and ends a call.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from time import perf_counter

import uvloop

from benchmarks.grpc.load import Client, Load, prepared
from benchmarks.grpc.wire import MESSAGE
from siger_gateway.http2.frames import data_frame, headers_frames


class Talker(Client):
    """One connection with so many streams."""

    def __init__(self, load: Load, blocks: list[bytes]) -> None:
        super().__init__(load)
        self._streams = dict(zip(range(1, 2 * len(blocks), 2), blocks, strict=True))
        self._came: defaultdict[int, int] = defaultdict(int)  # bytes, by stream

    def talk(self) -> None:
        """Opens all streams, with a message on each."""
        now = perf_counter()
        for stream_id, block in self._streams.items():
            self.began[stream_id] = now
            self.transport.write(
                headers_frames(stream_id, block, False, 16384)
                + data_frame(stream_id, MESSAGE, False)
            )

    def on_data(self, pieces: list[tuple[int, int]]) -> None:
        now = perf_counter()
        out = []
        for stream_id, size in pieces:
            self._came[stream_id] += size
            if self._came[stream_id] % len(MESSAGE):
                continue
            self.load.times.append(now - self.began[stream_id])
            self.began[stream_id] = now
            over = now >= self.load.until
            out.append(data_frame(stream_id, b"" if over else MESSAGE, over))
        if out:
            self.transport.write(b"".join(out))

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        for stream_id, _ in ended:
            del self.began[stream_id]
        if not self.began:
            self.load.finish(self)


async def main() -> None:
    port, seconds, connections, streams = sys.argv[1:]
    load = Load(float(seconds))
    blocks = [one[: int(streams)] for one in prepared()[: int(connections)]]
    talkers = [Talker(load, one) for one in blocks]

    def begin(_: float) -> None:
        for one in talkers:
            one.talk()

    await load.run(int(port), talkers, begin)


if __name__ == "__main__":
    uvloop.run(main())
