"""The ledger as it grows: bytes per job, the replay at the start, the time of a page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from benchmarks.jobs import servers
from benchmarks.jobs.fill import fill
from benchmarks.jobs.load import Bench
from benchmarks.results import Curve, Row, Table

PAGES = {
    "everybody_ms": "everybody's newest 100",
    "user_ms": "one user's newest 100",
    "nobody_ms": "a user without jobs",
    "user_status_ms": "one user's, of one status",
    "no_such_tag_ms": "a tag that no job has",
}


def ledgers(bench: Bench, sizes: Sequence[int]) -> tuple[list[Table], list[Curve]]:
    """One point of every curve for each size."""
    table = Table("job-ledger", "The ledger, one row per size")
    memory = Curve("job-ledger-memory", "Memory of the ledger", "jobs", "bytes per job (RSS)")
    replay = Curve("job-ledger-replay", "Replay at the start", "jobs", "seconds")
    each = Curve("job-ledger-event", "Replay, per event", "jobs", "µs per event")
    pages = Curve("job-ledger-page", "A page of the list", "jobs", "ms")
    for size in sizes:
        found = _measure(bench, size)
        events = found["events"]
        table.rows.append(Row(f"{size:,} jobs, {events:,.0f} events", [found]))
        memory.lines.setdefault("siger", []).append((size, found["bytes_per_job"]))
        replay.lines.setdefault("siger", []).append((size, found["replay_s"]))
        each.lines.setdefault("siger", []).append((size, found["replay_s"] / events * 1e6))
        for name, label in PAGES.items():
            pages.lines.setdefault(label, []).append((size, found[name]))
        print(
            f"ledger {size:9,} jobs {found['bytes_per_job']:6.0f} bytes/job, "
            f"{events:,.0f} events in {found['replay_s']:.2f} s "
            f"({found['replay_s'] / events * 1e6:.1f} µs each), pages "
            + ", ".join(f"{found[name]:.2f}" for name in PAGES)
            + " ms, longest turn "
            + f"{max(found[name.replace('_ms', '_turn_ms')] for name in PAGES):.2f} ms",
            file=sys.stderr,
        )
    return [table], [memory, replay, each, pages]


def _measure(bench: Bench, size: int) -> dict[str, float]:
    stream = f"ledger-{size}"
    asyncio.run(_fill(bench, stream, size))
    child = bench.children.start(
        "replay",
        [
            *(sys.executable, "-m", "benchmarks.jobs.replay"),
            *(f"127.0.0.1:{bench.nats_port}", stream, str(size)),
        ],
        core=bench.cores[0],
        environment=servers.environment(),
    )
    found = child.result(60 + size / 5000)
    asyncio.run(_drop(bench, stream))
    return found


async def _fill(bench: Bench, stream: str, size: int) -> None:
    client = await servers.connect(bench.nats_port)
    await servers.make_stream(client, stream)
    await fill(client, bench.nats_port, stream, size)
    await client.close()


async def _drop(bench: Bench, stream: str) -> None:
    client = await servers.connect(bench.nats_port)
    await client.jetstream().delete_stream(stream)
    await client.close()
