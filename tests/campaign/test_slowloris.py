"""slowhttptest in all of its four modes, ten seconds each, while others go on being answered."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import tempfile

import pytest

from tests.campaign.conftest import Tell
from tests.conftest import Serve, Services
from tests.install_servers import SLOWHTTPTEST, find
from tests.load import KEPT, ON_ITS_OWN, Load
from tests.running import Served, Upstream, eventually

ATTACKERS = 1000
SECONDS = 10
PAGE = 200_000
"""Bytes of the response that slow readers ask for, three times each: more than the buffers hold."""
MODES = {
    # A piece every second; -X reads 5 bytes a second of a response with a window of up to 512.
    "slow headers": ("-H", "-i", "1"),
    "slow body": ("-B", "-i", "1", "-s", "8192"),
    "slow read": ("-X", "-k", "3", "-w", "1", "-y", "512"),
    "apache range": ("-R", "-a", "5", "-b", "1300"),
}


async def service(upstream: Upstream, served: Served) -> None:
    await served.body()
    await served.ok(bytes(PAGE if served.line.split()[1] == "/large" else 10))


@pytest.mark.parametrize("mode", MODES)
async def test_slow_clients_stop_nobody(
    serve: Serve, services: Services, mode: str, tell: Tell
) -> None:
    binary = find(SLOWHTTPTEST)
    assert binary is not None, "python tests/install_servers.py slowhttptest"
    (upstream,) = await services(service)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        "limits: {header_timeout: 2s, idle_timeout: 3s, connections: 2000}\n"
        # Clients that do not read large responses hold connections to the service for as long.
        f'services: {{s: {{endpoints: ["{upstream.address}"], pool: {{max_connections: 2000}}}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    kept, on_their_own = Load(gateway.port, KEPT), Load(gateway.port, ON_ITS_OWN)
    url = f"http://127.0.0.1:{gateway.port}/large"
    before = gateway.resident
    highest, resident = 0.0, before
    async with kept.running(10), on_their_own.running(10):
        command = [binary, *MODES[mode], "-u", url, "-c", str(ATTACKERS), "-r", "500"]
        with tempfile.TemporaryFile() as output:
            attack = await asyncio.create_subprocess_exec(
                *command, "-l", str(SECONDS), "-p", "2", stdout=output, stderr=subprocess.STDOUT
            )
            try:
                while attack.returncode is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(attack.wait(), 0.5)
                    resident = max(resident, gateway.resident)
                    highest = max(highest, await gateway.metric("siger_downstream_connections"))
            finally:
                if attack.returncode is None:
                    attack.kill()
                    await attack.wait()
            output.seek(0)
            said = re.sub(r"\x1b\[[0-9;]*m", "", output.read().decode(errors="replace"))
    available = re.findall(r"service available:\s+(\w+)", said)
    assert available, said[-2000:]
    tell(
        f"{highest:.0f} connections at most, memory grew by {(resident - before) >> 20} MiB; "
        f"others: kept alive {kept}; one request each {on_their_own}; "
        f"available to slowhttptest itself: {available[-1]}"
    )
    assert set(available) == {"YES"}
    assert not kept.failed, kept
    assert not on_their_own.failed, on_their_own

    async def released() -> bool:
        return await gateway.metric("siger_downstream_connections") == 1

    await eventually(released)
