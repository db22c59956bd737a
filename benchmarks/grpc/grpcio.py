"""Unary calls by grpcio: ``python -m benchmarks.grpc.grpcio PORT SECONDS CONNECTIONS STREAMS``.

What a real client sends: its own framing, windows, pings and HPACK. It makes some ten thousand
calls per second on a core of its own, twice as many with futures and a thread for each channel as
with ``grpc.aio``. So it is the bottleneck beside every proxy; CPU per call is right all the same.
"""

from __future__ import annotations

import sys
from collections import deque
from threading import Thread
from time import perf_counter

import grpc

from benchmarks.grpc.load import print_result
from benchmarks.grpc.wire import MESSAGE

ANSWER = MESSAGE[5:]
"""Without gRPC's prefix, which is grpcio's affair."""
TIMEOUT = 10.0
"""Seconds for a call."""


class Caller(Thread):
    """A channel with a connection of its own, and so many calls at a time."""

    def __init__(self, port: int, number: int, streams: int, until: float) -> None:
        super().__init__()
        options = [("grpc.use_local_subchannel_pool", 1)]  # or all channels share a connection
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self._call = self._channel.unary_unary("/bench.Echo/Say")
        self._number = number << 40
        self._streams = streams
        self._until = until
        self.times: list[float] = []
        self.errors = 0

    def run(self) -> None:
        calls: deque[tuple[float, grpc.Future]] = deque()
        while True:
            while len(calls) < self._streams and perf_counter() < self._until:
                calls.append(self._begin())
            if not calls:
                break
            began, call = calls.popleft()  # the oldest: others may be over, and seem slower
            try:
                if call.result() == ANSWER:
                    self.times.append(perf_counter() - began)
                else:
                    self.errors += 1
            except grpc.RpcError as error:
                self.errors += 1
                print(error, file=sys.stderr)
        self._channel.close()

    def _begin(self) -> tuple[float, grpc.Future]:
        self._number = number = self._number + 1
        fields = (
            ("authorization", "Bearer 4f1c9a7d2e8b4c56a0d3e8b4c56a0d3e"),
            ("x-request-id", f"0190a5f2-7c4e-7b1a-9d3e-{number:012x}"),
            ("traceparent", f"00-{number * 0x9E3779B97F4A7C15 % 2**128:032x}-{number:016x}-01"),
        )
        return perf_counter(), self._call.future(ANSWER, timeout=TIMEOUT, metadata=fields)


def main() -> None:
    port, seconds, connections, streams = sys.argv[1:]
    began = perf_counter()
    until = began + float(seconds)
    callers = [Caller(int(port), n, int(streams), until) for n in range(int(connections))]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    print_result(
        [time for one in callers for time in one.times],
        perf_counter() - began,
        sum(one.errors for one in callers),
    )


if __name__ == "__main__":
    main()
