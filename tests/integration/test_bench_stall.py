"""What load at a constant rate sees of a service that stalls."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from pathlib import Path

from tests.programs import module
from tests.running import BOUND, eventually

RATE, SECONDS, CONNECTIONS = 500, 2, 4
STALL = 0.2
"""Seconds; so 100 of the 750 requests that count, the first half second does not, are due in it.
Four are on their way when it begins, one for each connection: one in 188, no matter for p99."""


def state(pid: int) -> str:
    """Its letter in proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def is_stopped(process: Process) -> bool:
    return state(process.pid) == "T"


async def test_a_stall_counts_for_all_requests_that_were_due_in_it() -> None:
    async with asyncio.timeout(BOUND), module("tests.stopping_service", RATE) as service:
        assert service.stdout is not None
        port = int(await service.stdout.readline())
        words = port, RATE, SECONDS, CONNECTIONS
        async with module("benchmarks.steady", *words) as load:
            await eventually(lambda: is_stopped(service))
            await asyncio.sleep(STALL)
            os.kill(service.pid, signal.SIGCONT)
            output, _ = await load.communicate()
    found = json.loads(output.decode().removeprefix("RESULT "))
    assert found["errors"] == 0
    assert found["p99_ms"] >= STALL * 1000 / 2
