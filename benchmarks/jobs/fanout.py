"""Server-sent events: every event of one job to N subscribers."""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

from benchmarks.jobs import servers
from benchmarks.jobs.fill import job_id
from benchmarks.jobs.load import Bench
from benchmarks.processes import Child, ProcessError, free_ports
from benchmarks.results import Figures, Row, Table

STREAM = "events"
BURST = 20
"""Events that are published before all subscribers have to have them: below the 256 that wait for
one reader."""
TIMEOUT = 20.0
MARK = b"\ndata: "


class Subscriber(asyncio.Protocol):
    """Counts events; ``fan`` is told of every read."""

    def __init__(self, fan: Fan) -> None:
        self._fan = fan
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(
            f"GET /api/v1/jobs/{job_id(1)}/events HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        text = self._end + data
        self._fan.arrived(text.count(MARK))
        self._end = text[-len(MARK) + 1 :]

    def connection_lost(self, error: Exception | None) -> None:
        self._fan.lost += 1


class Fan:
    """All subscribers together."""

    def __init__(self) -> None:
        self.count = 0
        self.lost = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def arrived(self, events: int) -> None:
        self.count += events
        if self.count >= self._wanted:
            self._reached.set()

    async def reaches(self, count: int) -> None:
        self._wanted = count
        if self.count < count:
            self._reached.clear()
            async with asyncio.timeout(TIMEOUT):
                await self._reached.wait()


def fanout(bench: Bench, subscribers: int) -> Table:
    """Events delivered per second, and CPU per delivered event."""
    row = Row("siger", note=f"{subscribers} subscribers, bursts of {BURST} events")
    title = f"Server-sent events of one job to {subscribers} subscribers"
    (port,) = free_ports(1)
    asyncio.run(_prepare(bench))
    child = servers.start_siger(bench.children, port, bench.nats_port, bench.cores[0], STREAM)
    child.wait_for_port(port)
    servers.answer(port, f"/api/v1/jobs/{job_id(1)}")
    asyncio.run(_rounds(bench, child, port, subscribers, row))
    child.stop()
    return Table("job-events", title, [row])


async def _prepare(bench: Bench) -> None:
    client = await servers.connect(bench.nats_port)
    await servers.make_stream(client, STREAM)
    document = {"type": "train", "name": "watched", "job_id": job_id(1)}
    subject = f"{STREAM}.submit.train.normal.{job_id(1)}"
    await client.jetstream().publish(subject, json.dumps(document).encode())
    await client.close()


async def _rounds(bench: Bench, child: Child, port: int, subscribers: int, row: Row) -> None:
    loop = asyncio.get_running_loop()
    fan = Fan()
    client = await servers.connect(bench.nats_port)
    opened = [
        await loop.create_connection(lambda: Subscriber(fan), "127.0.0.1", port)
        for _ in range(subscribers)
    ]
    try:
        await fan.reaches(subscribers)  # everybody has the first event: the job is queued
        for _ in range(bench.rounds + 1):
            figures = await _round(bench, child, client, fan, subscribers)
            row.rounds.append(figures)
            print(
                f"events {figures['rate_per_s']:8,.0f}/s {figures['cpu_us']:6.1f} µs",
                file=sys.stderr,
            )
    except TimeoutError:
        raise ProcessError(f"events are missing: {fan.count} came\n{child.output_end()}") from None
    del row.rounds[0]  # the warm-up
    row.errors = fan.lost
    for transport, _ in opened:
        transport.close()
    await client.close()


async def _round(
    bench: Bench, child: Child, client: servers.Client, fan: Fan, subscribers: int
) -> Figures:
    event = {
        "job_id": job_id(1),
        "status": "processing",
        "progress": 40,
        "message": "step 40 of 100",
        "timestamp": "2026-01-31T12:00:00.000Z",
        "worker": "worker-1",
    }
    payload = json.dumps(event).encode()
    before, cpu, began = fan.count, child.cpu_seconds(), perf_counter()
    while perf_counter() - began < bench.seconds:
        for _ in range(BURST):
            await client.publish(f"{STREAM}.status.{job_id(1)}", payload)
        await fan.reaches(fan.count + BURST * subscribers)
    elapsed, cpu = perf_counter() - began, child.cpu_seconds() - cpu
    delivered = fan.count - before
    return {
        "rate_per_s": delivered / elapsed,
        "cpu_us": cpu / delivered * 1e6,
        "busy_share": cpu / elapsed,
    }
