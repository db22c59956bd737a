"""A real Consul agent for tests: started on free ports, killed hard, started again in place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.install_servers import CONSUL, find
from tests.processes import freeze

START_TIMEOUT = 20.0
"""Seconds in which the agent has to answer and have a leader: itself; it takes 0.2 s."""
TRIES = 5
"""Starts with other ports, because somebody else may take a free port before the agent does."""


def free_ports(count: int) -> list[int]:
    """Different ports, free for TCP and UDP (Serf uses both)."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            stream = stack.enter_context(socket.socket())
            datagram = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            stream.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                datagram.bind(stream.getsockname())
                ports.append(int(stream.getsockname()[1]))
        return ports


class ConsulServer:
    """One ``consul agent -dev``: it keeps its ports over restarts, and forgets everything else.

    ::

        with ConsulServer() as consul:
            consul.register("users", "users-1", port=9001)
            consul.kill()
            consul.start()

    :param extra: configuration in HCL, such as ACL rules.
    :param token: what the methods of this class send; it has to be allowed everything.
    """

    def __init__(self, extra: str = "", token: str = "") -> None:
        self._extra = extra
        self._token = token
        self._directory = tempfile.mkdtemp(prefix="siger-consul-")
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[int] = []

    def __enter__(self) -> ConsulServer:
        for _ in range(TRIES):
            self._ports = free_ports(3)
            self.launch()
            if self._comes_up():
                return self
            self.stop()
        raise AssertionError(f"consul did not start:\n{self.log()}")

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def address(self) -> str:
        """``host:port`` of the HTTP API, as in the configuration."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the agent on the ports that it had; returns when it answers and has a leader."""
        self.launch()
        if not self._comes_up():
            raise AssertionError(f"consul did not start:\n{self.log()}")

    async def start_soon(self) -> None:
        """``start`` beside a running event loop."""
        await asyncio.to_thread(self.start)

    def launch(self) -> None:
        """Starts the process and does not wait."""
        assert self._process is None
        binary = find(CONSUL)
        assert binary is not None, "consul is missing: python tests/install_servers.py"
        http, serf, server = self._ports
        ports = (
            f"ports {{ http = {http} serf_lan = {serf} server = {server} "
            "serf_wan = -1 dns = -1 grpc = -1 https = -1 }"
        )
        with open(Path(self._directory) / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    binary, "agent", "-dev", "-bind", "127.0.0.1", "-client", "127.0.0.1",
                    "-hcl", ports, "-hcl", "disable_update_check = true",
                    *(("-hcl", self._extra) if self._extra else ()),
                ],
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("CONSUL_")},
            )  # fmt: skip

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            # Not SIGTERM: a dev agent has nothing to save, and leaves its cluster for seconds.
            self._end(signal.SIGKILL)

    def pause(self) -> None:
        """The process hangs: its connections stay open and nothing is answered."""
        freeze(self.pid)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        return (Path(self._directory) / "log").read_text(errors="replace")

    # What a service, or an operator, would tell it.

    def register(
        self,
        name: str,
        service_id: str,
        *,
        port: int,
        address: str = "127.0.0.1",
        status: str = "passing",
        weight: int = 1,
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
    ) -> None:
        """Registers an instance with a TTL check, of ten minutes, in that status."""
        self.call(
            "PUT",
            "/v1/agent/service/register",
            {
                "Name": name,
                "ID": service_id,
                "Address": address,
                "Port": port,
                "Tags": [*tags],
                "Meta": {**(meta or {})},
                "Weights": {"Passing": weight, "Warning": 1},
                "Check": {"TTL": "10m", "Status": status},
            },
        )

    def set_status(self, service_id: str, status: str) -> None:
        """``passing``, ``warning`` or ``critical``."""
        self.call("PUT", f"/v1/agent/check/update/service:{service_id}", {"Status": status})

    def deregister(self, service_id: str) -> None:
        self.call("PUT", f"/v1/agent/service/deregister/{service_id}")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the HTTP API; returns the parsed answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, method=method)
        if self._token:
            request.add_header("X-Consul-Token", self._token)
        with urllib.request.urlopen(request, timeout=START_TIMEOUT) as response:
            content = response.read()
        return json.loads(content) if content else None

    def _comes_up(self) -> bool:
        """Whether the agent answers, has a leader and knows itself, before the bound."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                if self.call("GET", "/v1/status/leader") and self.call(
                    "GET", "/v1/health/service/consul"
                ):
                    return True
            time.sleep(0.02)
        return False

    def _end(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
        self._process.wait(10)
        self._process = None
