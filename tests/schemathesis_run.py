"""``schemathesis`` as a user runs it, against the ``/openapi.json`` of a real gateway."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.nats_server import NatsServer
from tests.running import RunningGateway, eventually

ROOT = Path(__file__).resolve().parent.parent

NOT_CHECKED = ("use_after_free",)
"""A cancelled job is not gone: DELETE asks for its end, and says so with 202."""


SETTINGS = """\
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 422, 428, 429, 431, "5xx"]
"""
"""What is too long to be read is refused (413, 414, 431), which schemathesis does not expect."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it. ``cases``: requests that were made up."""

    code: int
    output: str

    @property
    def cases(self) -> int:
        found = re.search(r"(\d+) generated", self.output)
        return int(found[1]) if found else 0


async def run_schemathesis(folder: Path, config: str, *options: str, bound: float) -> Run:
    """Starts a gateway with a queue, lets schemathesis at it, and stops it.

    :param options: of ``schemathesis run``.
    :param bound: seconds that it may take.
    """
    (folder / "schemathesis.toml").write_text(SETTINGS)
    with NatsServer() as nats:
        gateway = RunningGateway(folder, f"nats_address: 127.0.0.1:{nats.port}\n{config}")
        await gateway.start()

        async def serves_jobs() -> bool:
            return (await gateway.get("/api/v1/jobs")).status in (200, 401)

        try:
            await eventually(serves_jobs)
            child = await asyncio.create_subprocess_exec(
                Path(sys.executable).parent / "schemathesis",
                "run",
                f"http://127.0.0.1:{gateway.port}/openapi.json",
                "--request-timeout=10",
                f"--exclude-checks={','.join(NOT_CHECKED)}",
                "--no-color",
                *options,
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                async with asyncio.timeout(bound):
                    output, _ = await child.communicate()
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        finally:
            await gateway.stop()
    return Run(child.returncode or 0, output.decode())
