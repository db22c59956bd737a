"""grpc-js on either end: node runs tests/integration/grpc_js with the packages that
tests/install_servers.py has put into the cache."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any

from tests.grpc_services import CallsSeen, ServedCall
from tests.install_servers import GRPC_JS, node_modules
from tests.running import BOUND


def missing() -> str:
    """Why grpc-js cannot run here; empty when it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not node_modules().is_dir():
        return "grpc-js is not in the cache: python tests/install_servers.py"
    return ""


class Program:
    """One of the programs, which reads lines and writes objects, and ends when stdin does."""

    def __init__(self, name: str, *arguments: str | Path) -> None:
        self._command = ("node", str(GRPC_JS / name), *map(str, arguments))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "NODE_PATH": str(node_modules())},
        )

    async def stop(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()

    def tell(self, **line: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")

    async def printed(self) -> dict[str, Any]:
        """The next object. Raises EOFError when the program has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise EOFError(" ".join(self._command))
        printed: dict[str, Any] = json.loads(line)
        return printed


class GrpcJsService(CallsSeen):
    """The service of tests/grpc_services.py, served by grpc-js.

    :param pair: the files of its certificate and key, if it speaks TLS.
    """

    compresses = False
    """It reads compressed messages, but grpc-js 1.14 cannot write any as a server."""

    def __init__(self, pair: tuple[Path, Path] | None = None) -> None:
        super().__init__()
        self.port = 0
        self._program = Program("server.js", *(pair or ()))
        self._by_number: dict[int, ServedCall] = {}
        self._marked = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        await self._program.start()
        async with asyncio.timeout(BOUND):
            self.port = (await self._program.printed())["port"]
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        await self._program.stop()
        if self._reader is not None:
            await self._reader

    async def forget(self) -> None:
        self._marked.clear()
        self._program.tell()
        async with asyncio.timeout(BOUND):
            await self._marked.wait()  # so that no line about an earlier call is still to be read
        await super().forget()

    async def _read(self) -> None:
        while True:
            try:
                line = await self._program.printed()
            except EOFError:
                return
            if "call" in line:
                metadata = {
                    name: b64decode(value) if name.endswith("-bin") else value
                    for name, value in line["metadata"].items()
                }
                call = ServedCall(line["method"], metadata, None)
                self._by_number[line["call"]] = call
                self.came(call)
            elif "ended" in line:
                call = self._by_number.pop(line["ended"])
                call.cancelled = line["cancelled"]
                call.ended.set()
            else:
                self._marked.set()


class GrpcJsClient:
    """A client of that service, which calls ``127.0.0.1:port`` and runs the cases of client.js.

    :param ca: the file of the authority that it trusts, if it is to speak TLS.
    """

    def __init__(self, port: int, ca: Path | None = None) -> None:
        self._program = Program("client.js", f"127.0.0.1:{port}", *([ca] if ca else []))

    async def start(self) -> None:
        await self._program.start()

    async def stop(self) -> None:
        await self._program.stop()

    def begin(self, case: str, **metadata: str) -> None:
        """Begins a case; underscores in the names of metadata stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        self._program.tell(case=case, metadata=named)

    def cancel(self) -> None:
        """What a case waits for that is to be cancelled."""
        self._program.tell()

    async def passed(self) -> None:
        """Waits for the end of the case; fails with what failed in it."""
        async with asyncio.timeout(2 * BOUND):  # its calls have BOUND as their deadline
            outcome = await self._program.printed()
        assert outcome == {"passed": True}, outcome.get("failed")
