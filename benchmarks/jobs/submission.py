"""Submissions: Siger over HTTP, FastAPI + nats-py over HTTP, and raw ``js.publish`` without any."""

from __future__ import annotations

import asyncio
import sys

from nats.aio.client import Client

from benchmarks.jobs import servers
from benchmarks.jobs.load import Bench, load
from benchmarks.processes import Child, free_ports
from benchmarks.results import Row, Table, turns
from benchmarks.servers import builds

PATH = "/api/v1/jobs"
WARM_UP = 2
"""Seconds of load before the first round."""
MARGIN = 20.0
"""Seconds for a child to start, beside its work."""


class Submission:
    """One table: requests/s and CPU per request of whoever stores jobs."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        title = f"Job submission, {bench.connections} at a time, confirmed by JetStream (files)"
        self._rows = {name: Row(name) for name in (*builds(), "fastapi", "raw")}
        self.table = Table("job-submission", title, list(self._rows.values()))

    def run(self) -> Table:
        bench = self._bench
        children, nats_port, core = bench.children, bench.nats_port, bench.cores[0]
        ours = builds()
        port, *ports = free_ports(1 + len(ours))
        running = {
            "fastapi": (servers.start_fastapi(children, port, nats_port, core, "peer"), port)
        }
        for (name, code), port in zip(ours.items(), ports, strict=True):
            # A stream for each: a gateway reads all of its own.
            started = servers.start_siger(children, port, nats_port, core, name, name, code)
            running[name] = (started, port)
        for child, port in running.values():
            child.wait_for_port(port)
        for child, port in running.values():
            load(bench, child, port, "submit.lua", PATH, Row("warm-up"), WARM_UP)
        for number in range(bench.rounds):
            for name in turns(list(self._rows), number):
                asyncio.run(self._purge())
                self._round(name, *running.get(name, (None, 0)))
        for child, _ in running.values():
            child.stop()
        asyncio.run(self._drop())
        return self.table

    def _round(self, name: str, child: Child | None, port: int) -> None:
        row, bench = self._rows[name], self._bench
        if child is None:
            figures = self._raw()
        else:
            figures = load(bench, child, port, "submit.lua", PATH, row, bench.seconds)
        row.rounds.append(figures)
        rate, cpu = figures["rate_per_s"], figures["cpu_us"]
        print(f"submission {name:8} {rate:8,.0f}/s {cpu:6.1f} µs", file=sys.stderr)

    def _raw(self) -> dict[str, float]:
        bench = self._bench
        before = bench.nats.cpu_seconds()
        address = f"127.0.0.1:{bench.nats_port}"
        argv = ["-m", "benchmarks.jobs.raw", address, "raw"]
        child = bench.children.start(
            "raw",
            [sys.executable, *argv, str(bench.connections), str(bench.seconds)],
            core=bench.cores[0],
            environment=servers.environment(),
        )
        found = child.result(bench.seconds + MARGIN)
        requests = found["requests"]
        return {
            "rate_per_s": requests / found["duration"],
            "cpu_us": found["cpu"] / requests * 1e6,
            "nats_us": (bench.nats.cpu_seconds() - before) / requests * 1e6,
            "busy_share": found["cpu"] / found["duration"],
        }

    async def _purge(self) -> None:
        async with await servers.connect(self._bench.nats_port) as client:
            for stream in await _streams(client):
                await client.jetstream().purge_stream(stream)

    async def _drop(self) -> None:
        async with await servers.connect(self._bench.nats_port) as client:
            for stream in await _streams(client):
                await client.jetstream().delete_stream(stream)


async def _streams(client: Client) -> list[str]:
    return [str(info.config.name) for info in await client.jetstream().streams_info()]
