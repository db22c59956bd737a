"""``siger-gateway dev``: everything on one machine, as the README promises it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

from tests.running import RunningGateway, eventually

README = Path(__file__).parents[2] / "README.md"
JSON = "Content-Type: application/json"


def children(pid: int) -> list[int]:
    """Process ids of the children of ``pid``."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


async def test_the_curls_of_the_readme_work_and_nothing_is_left_behind(tmp_path: Path) -> None:
    dev = RunningGateway(tmp_path, "")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "siger_gateway", "dev", "--port", "0"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    dev.process = process
    try:
        assert process.stdout is not None
        banner = ""
        async with asyncio.timeout(30):
            while "Ctrl-C" not in banner:
                line = await process.stdout.readline()
                assert line, banner
                banner += line.decode()
        dev.port = int(re.findall(r"localhost:(\d+)", banner)[0])
        curls = re.findall(r"^ *(curl .*)$", banner, re.MULTILINE)
        assert len(curls) == 3
        readme = README.read_text()
        for curl in curls:  # the README shows the very lines that dev prints
            assert curl.replace(f":{dev.port}", ":8080") in readme

        user = await dev.get("/api/v1/users/42")
        assert (user.status, user.json["id"]) == (200, "42")

        body = re.findall(r"-d '(.*)'$", curls[1])[0].encode()
        job = await dev.request("POST /api/v1/jobs", JSON, body=body)
        assert (job.status, job.json["status"]) == (202, "queued")
        place = job.headers["location"]

        async def has_status(status: str) -> bool:
            return bool((await dev.get(f"{place}?wait=1s")).json["status"] == status)

        await eventually(lambda: has_status("processing"))
        assert (await dev.request(f"DELETE {place}")).status == 202
        await eventually(lambda: has_status("cancelled"))

        second = await dev.request("POST /api/v1/jobs", JSON, body=body)
        place = second.headers["location"]
        await eventually(lambda: has_status("completed"), 30)
        newest = (await dev.get("/api/v1/jobs?limit=1")).json["jobs"][0]
        assert newest["job_id"] == second.json["job_id"]

        left = children(process.pid)
        assert left
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert not [pid for pid in left if os.path.exists(f"/proc/{pid}")]  # noqa: ASYNC240
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
