"""What listings cost among 100,000 jobs, and what a job takes: ``python -m benchmarks.jobs``.

``jobs.ledger_jobs`` is 100,000 by default. Times are the best of several runs; the longest turn is
what others wait for the loop meanwhile.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from time import perf_counter

import orjson
import uvloop

from siger_gateway.config.schema import JobsConfig
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.telemetry.metrics import Metrics

JOBS = 100_000
USERS = 1000
FEW = {5, 50_000, 99_990}
"""The sequences of the jobs of a user who has three."""
RUNS = 9


def filled() -> Ledger:
    """A ledger that has read its jobs, without a server to read them from."""
    queue = JobQueue(JobsConfig(ledger_jobs=JOBS), "", Metrics())
    ledger = Ledger(queue, Metrics())
    ledger._reader.complete = True
    for seq in range(1, JOBS + 1):
        user = "few" if seq in FEW else f"user-{seq % USERS}"
        document = {"type": "train", "name": f"job {seq}", "user_id": user}
        ledger._jobs.take("submit", f"{seq:036d}", orjson.dumps(document), seq, 4e9)
    return ledger


async def longest_turn(stop: asyncio.Event) -> float:
    longest, last = 0.0, perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = perf_counter()
        longest, last = max(longest, now - last), now
    return longest


async def listing(ledger: Ledger, label: str, actor: Actor) -> None:
    best = longest = float("inf")
    for _ in range(RUNS):
        stop = asyncio.Event()
        beside = asyncio.create_task(longest_turn(stop))
        await asyncio.sleep(0)
        started = perf_counter()
        page, _ = await ledger.list(actor, limit=100)
        best = min(best, perf_counter() - started)
        stop.set()
        longest = min(longest, await beside)
    times = f"{best * 1e3:8.2f} ms, longest turn {longest * 1e3:.2f} ms"
    print(f"{f'list, {label}: {len(page)} jobs':40} {times}")


async def main() -> None:
    tracemalloc.start()
    ledger = filled()
    print(f"{'a job in memory':40} {tracemalloc.get_traced_memory()[0] / JOBS:8.0f} bytes")
    tracemalloc.stop()
    await listing(ledger, "everybody's", UNRESTRICTED)
    await listing(ledger, "a user with three", Actor("few", "few"))
    await listing(ledger, "a user with a hundred", Actor("user-7", "user-7"))
    await listing(ledger, "a user with none", Actor("nobody", "nobody"))


if __name__ == "__main__":
    uvloop.run(main())
