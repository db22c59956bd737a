"""A worker that runs a program for each job."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from siger_gateway.jobs.exec import exec_handler
from siger_gateway.jobs.worker import Worker
from tests.jobs_gateway import JOBS, JobsGateway, eventually, working
from tests.nats_server import NatsServer


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        yield await gateway.live()


READ_PARAMS = "import json, sys; print(json.load(sys.stdin)['params']['a'])"


def sh(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (sh("""echo working; echo '{"loss": 0.1}'"""), {"loss": 0.1}),
        (sh("echo just text"), "just text"),
        (sh("cat >/dev/null"), None),
        (f"{sys.executable} -c {shlex.quote(READ_PARAMS)}", 5),
    ],
)
async def test_what_a_program_prints_is_the_result(
    nats: NatsServer, gateway: JobsGateway, command: str, result: object
) -> None:
    async with working(Worker(nats.address, "train", handler=exec_handler(command))):
        job = await gateway.until(await gateway.submit(params={"a": 5}), "completed", "failed")
    assert job["status"] == "completed", job
    assert job.get("result") == result


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (sh("echo oops >&2; exit 3"), "exit code 3: oops"),
        (sh("exit 4"), "exit code 4"),
        (sh("kill -9 $$"), "signal SIGKILL"),
        ("/no/such/program", "/no/such/program: No such file or directory"),
    ],
)
async def test_a_program_that_fails_says_why(
    nats: NatsServer, gateway: JobsGateway, command: str, error: str
) -> None:
    async with working(Worker(nats.address, "train", handler=exec_handler(command))):
        job = await gateway.until(await gateway.submit(), "failed")
    assert job["error"] == error


async def test_a_program_reports_progress_on_standard_error(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    command = sh("echo progress 40 loading >&2; exit 1")
    async with working(Worker(nats.address, "train", handler=exec_handler(command))):
        job_id = await gateway.submit()
        async with gateway.events(job_id) as stream:
            events = [data for _, data in await stream.all()]
    assert (events[2]["progress"], events[2]["message"]) == (40, "loading")
    assert events[3]["error"] == "exit code 1"


async def test_a_cancelled_program_ends_with_everything_that_it_started(
    nats: NatsServer, gateway: JobsGateway, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; while :; do wait; done"
    handler = exec_handler(sh(script), grace=0.1)
    async with working(Worker(nats.address, "train", handler=handler)):
        job_id = await gateway.submit()
        await eventually(lambda: pids.exists() and pids.read_text().strip(), "it runs")
        await gateway.call("DELETE", f"{JOBS}/{job_id}")
        await gateway.until(job_id, "cancelled")
    for pid in map(int, pids.read_text().split()):
        await eventually(lambda pid=pid: not alive(pid), f"{pid} has ended")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet (its parent may be an init that does not) is dead.
    stat = Path(f"/proc/{pid}/stat").read_text() if Path(f"/proc/{pid}").exists() else ") X"
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


@pytest.mark.parametrize("command", ["", "   ", "sh -c 'open"])
def test_a_command_that_cannot_be_run_is_refused_at_once(command: str) -> None:
    with pytest.raises(ValueError, match=r"empty|quotation"):
        exec_handler(command)
