"""One proxied unary call without its sockets: what the gateway's own code costs.

``python -m benchmarks.grpc.in_process``: as ``benchmarks.wire`` for HTTP/1.1. The bytes of the
load's calls go into a real gateway's connection, so many at a time, the service's answers into the
connection that it took, and what both write is thrown away.
"""

from __future__ import annotations

import argparse
import gc
import json
from time import perf_counter

import uvloop

from benchmarks.grpc.backend import ANSWER_HEAD, ANSWER_TRAILERS
from benchmarks.grpc.load import blocks
from benchmarks.grpc.wire import GREETING, MESSAGE
from benchmarks.wire import Wire
from siger_gateway.config.load import loads
from siger_gateway.gateway import Gateway
from siger_gateway.http2.client import ClientConnection
from siger_gateway.http2.frames import PREFACE, SETTINGS_ACK, data_frame, headers_frames
from siger_gateway.http2.server import ServerConnection
from siger_gateway.upstream.stream_pool import StreamPool

CONFIG = {
    "consul_address": "",
    "nats_address": "",
    "data_dir": "",
    "access_log": {"path": ""},
    "admin": {"port": ""},
    "services": {"echo": {"endpoints": ["127.0.0.1:1"], "protocol": "h2c"}},
    "routes": [{"name": "echo", "match": {"path_prefix": "/bench.Echo"}, "service": "echo"}],
}


class Pair:
    """A client's connection to the gateway, and the gateway's to the service."""

    def __init__(self, gateway: Gateway) -> None:
        (endpoint,) = gateway._clusters["echo"].endpoints
        pool = endpoint.pool
        assert isinstance(pool, StreamPool)
        self.service = ClientConnection(pool, 1.0)
        self.to_service = Wire()
        self.service.connection_made(self.to_service)  # type: ignore[arg-type]
        self.service.data_received(GREETING + SETTINGS_ACK)
        pool._connections.append(self.service)
        self.client = ServerConnection(gateway._listener)
        self.to_client = Wire()
        self.client.connection_made(self.to_client)  # type: ignore[arg-type]
        self.client.data_received(PREFACE + GREETING + SETTINGS_ACK)
        self.turn()
        self._stream = self._upstream = 1

    def turn(self) -> None:
        """A turn of the loop: what has been written goes out."""
        self.service.flush()
        self.client.flush()

    def run(self, headers: list[bytes], at_a_time: int) -> None:
        """Calls with these header blocks, each from its first byte to the end of the answer."""
        for start in range(0, len(headers), at_a_time):
            some = headers[start : start + at_a_time]
            asked, answered = [], []
            for block in some:
                asked.append(headers_frames(self._stream, block, False, 16384))
                asked.append(data_frame(self._stream, MESSAGE, True))
                answered.append(headers_frames(self._upstream, ANSWER_HEAD, False, 16384))
                answered.append(data_frame(self._upstream, MESSAGE, False))
                answered.append(headers_frames(self._upstream, ANSWER_TRAILERS, True, 16384))
                self._stream += 2
                self._upstream += 2
            self.client.data_received(b"".join(asked))
            self.turn()
            self.service.data_received(b"".join(answered))
            self.turn()


async def measure(runs: int, calls: int, at_a_time: int) -> None:
    """Prints the best of ``runs``."""
    gateway = Gateway(loads(json.dumps(CONFIG)).config)
    pair = Pair(gateway)
    prepared = blocks(runs * calls, 1)
    gc.collect()
    gc.freeze()
    best = float("inf")
    for number in range(runs):
        some = prepared[number * calls : (number + 1) * calls]
        began = perf_counter()
        pair.run(some, at_a_time)
        best = min(best, perf_counter() - began)
    answered = gateway.metrics.grpc.counts["bench.Echo", "Say", "OK"]
    assert answered == runs * calls, "not every call was answered"
    print(f"{best / calls * 1e6:6.2f} µs a call, {at_a_time} at a time, best of {runs} runs")
    await gateway.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpc.in_process", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=100, help="the best of them counts")
    parser.add_argument("--calls", type=int, default=256, help="in each")
    parser.add_argument("--at-a-time", type=int, default=8)
    options = parser.parse_args()
    uvloop.run(measure(options.runs, options.calls, options.at_a_time))


if __name__ == "__main__":
    main()
