"""What watching many services costs while nothing changes, with a real Consul agent.

python -m tests.discovery_cost [services] [seconds]
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import uvloop

from tests.consul_server import ConsulServer
from tests.discovery_watch import Watch, eventually, open_sockets

INSTANCES = 3


async def stalls(seconds: float) -> str:
    """How long the loop was held up at most, and the CPU time used; both in text."""
    used, worst, end = time.process_time(), 0.0, time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - now - 0.01)
    return (
        f"{time.process_time() - used:.2f} s CPU in {seconds:g} s, "
        f"longest stall of the loop {worst * 1000:.1f} ms"
    )


async def main(services: int, seconds: float) -> None:
    names = [f"service-{number}" for number in range(services)]
    logging.disable()
    print(f"measuring itself: {await stalls(seconds / 4)}")
    with ConsulServer() as consul:
        for number, name in enumerate(names):
            for instance in range(INSTANCES):
                port = 1000 + number * INSTANCES + instance
                consul.register(name, f"{name}-{instance}", port=port)
        began, used = time.monotonic(), time.process_time()
        async with Watch(consul.address, *names) as watch:
            await eventually(lambda: len(watch.history) == services, "first tables")
            print(
                f"first tables of {services} services: {time.monotonic() - began:.2f} s, "
                f"{time.process_time() - used:.2f} s CPU"
            )
            print(f"nothing changes: {await stalls(seconds)}, {open_sockets()} sockets")
            began, used = time.monotonic(), time.process_time()
            await asyncio.to_thread(consul.set_status, "service-7-1", "critical")
            await eventually(lambda: len(watch.history) > services, "the change")
            print(
                f"one check fails: seen after {(time.monotonic() - began) * 1000:.0f} ms, "
                f"{(time.process_time() - used) * 1000:.0f} ms CPU"
            )


if __name__ == "__main__":
    numbers = [float(one) for one in sys.argv[1:]]
    uvloop.run(main(int(numbers[0]) if numbers else 1000, numbers[1] if numbers[1:] else 120.0))
