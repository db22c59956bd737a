"""Status polling: one job document after the other, beside nginx with a file of that size."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.jobs import servers
from benchmarks.jobs.fill import fill, job_id
from benchmarks.jobs.load import Bench, load
from benchmarks.processes import free_ports
from benchmarks.results import Row, Table, turns
from benchmarks.servers import builds

JOBS = 10_000
"""Jobs that are polled in turn."""
STREAM = "poll"
WARM_UP = 1


def polling(bench: Bench) -> Table:
    """requests/s and CPU per request of both."""
    nginx = Row("nginx")
    title = f"Status of one of {JOBS:,} jobs, beside nginx with a static file of the same size"
    asyncio.run(_fill(bench))
    ours = builds()
    nginx_port, *ports = free_ports(1 + len(ours))
    children, core = bench.children, bench.cores[0]
    running = []
    for (name, code), port in zip(ours.items(), ports, strict=True):
        gateway = servers.start_siger(children, port, bench.nats_port, core, STREAM, name, code)
        gateway.wait_for_port(port)
        body = servers.answer(port, f"/api/v1/jobs/{job_id(JOBS)}")
        running.append((Row(name), gateway, port))
    server = servers.start_nginx(children, bench.nginx, nginx_port, core, body)
    server.wait_for_port(nginx_port)
    paths = children.directory / "paths.txt"
    # A step that shares no factor with the number of jobs: all of them, in a mixed order.
    numbers = (7919 * each % JOBS + 1 for each in range(JOBS))
    paths.write_text("".join(f"/api/v1/jobs/{job_id(each)}\n" for each in numbers))
    running.append((nginx, server, nginx_port))
    for _, child, port in running:
        load(bench, child, port, "poll.lua", str(paths), Row("warm-up"), WARM_UP)
    for number in range(bench.rounds):
        for row, child, port in turns(running, number):
            figures = load(bench, child, port, "poll.lua", str(paths), row, bench.seconds)
            row.rounds.append(figures)
            rate, cpu = figures["rate_per_s"], figures["cpu_us"]
            print(f"polling {row.contender:8} {rate:8,.0f}/s {cpu:6.1f} µs", file=sys.stderr)
    for _, child, _ in running:
        child.stop()
    return Table("job-polling", title, [row for row, _, _ in running])


async def _fill(bench: Bench) -> None:
    client = await servers.connect(bench.nats_port)
    await servers.make_stream(client, STREAM)
    await fill(client, bench.nats_port, STREAM, JOBS)
    await client.close()
