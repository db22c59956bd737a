"""Unary calls by grpcio: ``python -m benchmarks.grpc.grpcio_load PORT SECONDS CHANNELS CALLS``.

As ``load``, with the client that people have. It cannot saturate a proxy, but what a proxy spends
on one of its calls is what counts. Prints ``RESULT {...}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

import grpc

from benchmarks.grpc.wire import MESSAGE

ASKED = MESSAGE[5:]
"""The message without what frames it."""
TOKEN = "Bearer 4f1c9a7d2e8b4c56a0d3e8b4c56a0d3e"


async def run(port: int, seconds: float, count: int, calls: int) -> None:
    # Else all channels would share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(count)]
    for channel in channels:
        await channel.channel_ready()
    times: list[float] = []
    errors = number = 0
    started = perf_counter()
    until = started + seconds

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal errors, number
        say = channel.unary_unary("/bench.Echo/Say")
        while (began := perf_counter()) < until:
            number += 1
            trace = f"00-{number * 0x9E3779B97F4A7C15 % 2**128:032x}-{number:016x}-01"
            metadata = (
                ("authorization", TOKEN),
                ("x-request-id", f"0190a5f2-7c4e-7b1a-9d3e-{number:012x}"),
                ("traceparent", trace),
            )
            try:
                answer = await say(ASKED, metadata=metadata)
            except grpc.aio.AioRpcError:
                errors += 1
            else:
                errors += answer != ASKED
                times.append(perf_counter() - began)

    await asyncio.gather(*[caller(one) for one in channels for _ in range(calls)])
    elapsed = perf_counter() - started
    for channel in channels:
        await channel.close()
    times.sort()
    found = {
        "calls": len(times),
        "seconds": elapsed,
        "errors": errors,
        "p50_ms": times[len(times) // 2] * 1e3 if times else 0,
        "p99_ms": times[int(len(times) * 0.99)] * 1e3 if times else 0,
    }
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
