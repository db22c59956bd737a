"""A gateway's ledger in a process of its own: what it takes to start it, to hold it, to list it.

``python -m benchmarks.jobs.replay ADDRESS STREAM JOBS``; prints ``RESULT {...}``. Memory is the
growth of the resident set (RSS) from before the stream is read to after it, and so holds what the
allocator wastes; tracemalloc would slow the reading that is timed. Times of pages are the best of
several, the longest turn is what others wait for the loop meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from pathlib import Path
from time import perf_counter, process_time

import uvloop

from siger_gateway.config.schema import JobsConfig
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.telemetry.metrics import Metrics

RUNS = 5


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def longest_turn(stop: asyncio.Event) -> float:
    longest, last = 0.0, perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = perf_counter()
        longest, last = max(longest, now - last), now
    return longest


async def page(ledger: Ledger, actor: Actor, **conditions: frozenset[str]) -> tuple[float, float]:
    """Milliseconds for one page of 100 jobs, and of the longest turn."""
    best = longest = float("inf")
    for _ in range(RUNS):
        stop = asyncio.Event()
        beside = asyncio.create_task(longest_turn(stop))
        await asyncio.sleep(0)
        started = perf_counter()
        await ledger.list(actor, limit=100, **conditions)
        best = min(best, perf_counter() - started)
        stop.set()
        longest = min(longest, await beside)
    return best * 1e3, longest * 1e3


async def main(address: str, stream: str, jobs: int) -> None:
    config = JobsConfig(stream=stream, ledger_jobs=jobs + 1000)
    metrics = Metrics()
    queue = JobQueue(config, address, metrics)
    ledger = Ledger(queue, metrics)
    queue.start()
    await queue.connection.wait()
    gc.collect()
    before, began, cpu = resident(), perf_counter(), process_time()
    ledger.start()
    while not ledger.ready:  # noqa: ASYNC110 - nothing is told when it is
        await asyncio.sleep(0.002)
    replay, cpu = perf_counter() - began, process_time() - cpu
    gc.collect()
    held = resident() - before
    assert len(ledger) == jobs, f"{len(ledger)} jobs"
    found = {
        "replay_s": replay,
        "replay_cpu_s": cpu,
        "bytes_per_job": held / jobs,
        "events": ledger._reader.position.seq,
    }
    user = Actor("user-7", "user-7")
    for name, actor, conditions in (
        ("everybody", UNRESTRICTED, {}),
        ("user", user, {}),
        ("nobody", Actor("nobody", "nobody"), {}),
        ("user_status", user, {"statuses": frozenset({"queued"})}),
        ("no_such_tag", UNRESTRICTED, {"tags": frozenset({"no-such"})}),
    ):
        found[f"{name}_ms"], found[f"{name}_turn_ms"] = await page(ledger, actor, **conditions)
    print("RESULT", json.dumps(found))
    await ledger.close()
    await queue.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
