"""A real gateway process, real services and a raw client, for the integration tests.

Everything listens on free ports of 127.0.0.1 and is stopped by its pid. Nothing sleeps: whoever
waits, waits for an event with ``BOUND`` seconds as the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOUND = 15.0
"""Seconds after which a test stops waiting: far beyond what anything here takes."""


class RunningGateway:
    """``siger-gateway serve`` as a child process.

    :param config: the YAML of the configuration but for ``port`` and ``access_log``; without
        ``admin`` there is no admin listener.
    """

    def __init__(self, folder: Path, config: str) -> None:
        self.folder = folder
        self.config_path = folder / "gateway.yaml"
        self.access_log = folder / "access.log"
        self.port = 0
        self.grpc_port = 0
        """That of ``grpc.port``, if it is configured."""
        self.cwd: Path | None = None
        self.wrapper: tuple[str, ...] = ()
        """A command that runs the gateway in its own place (``exec``), such as setpriv."""
        self.tls: ssl.SSLContext | None = None
        """What clients connect with when the gateway speaks TLS."""
        self.lines: list[dict[str, Any]] = []
        self._news = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.write_config(config)

    def write_config(self, config: str) -> None:
        admin = "" if "admin:" in config else 'admin: {port: ""}\n'
        self.config_path.write_text(
            f'port: "127.0.0.1:{self.port}"\n'
            f"access_log: {{path: {self.access_log}}}\n"
            f"data_dir: {self.folder / 'data'}\n{admin}" + config
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def resident(self) -> int:
        """Bytes of memory of the process, from statm (proc(5))."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    async def start(self) -> None:
        """Returns when it serves; fails with what it printed when it does not."""
        self.lines.clear()
        self.process = await asyncio.create_subprocess_exec(
            *self.wrapper,
            sys.executable,
            "-m",
            "siger_gateway",
            "serve",
            "--config",
            str(self.config_path),
            cwd=self.cwd,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reader = asyncio.create_task(self._read())
        serving = await self.line("serving")
        self.port = int(serving["port"])
        self.grpc_port = int(serving.get("grpc_port", 0))

    async def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                self.lines.append(json.loads(raw))
            except ValueError:
                self.lines.append({"message": raw.decode().rstrip()})
            self._news.set()
        self.lines.append({"message": "<end of log>"})
        self._news.set()

    async def line(self, message: str, after: int = 0) -> dict[str, Any]:
        """The first line of the log with this message, from line ``after`` on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOUND):
                while True:
                    for one in self.lines[after:]:
                        if one.get("message") == message:
                            return one
                    if self.lines and self.lines[-1]["message"] == "<end of log>":
                        break
                    self._news.clear()
                    await self._news.wait()
        raise AssertionError(f"no {message!r} in {self.lines}")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def wait(self) -> int:
        """The exit code."""
        assert self.process is not None
        async with asyncio.timeout(BOUND + 30):
            code = await self.process.wait()
            if self._reader is not None:
                await self._reader
            return code

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        if self.process is not None:
            await self.wait()

    async def reload(self) -> dict[str, Any]:
        """SIGHUP; the line that says what came of it."""
        after = len(self.lines)
        self.send(signal.SIGHUP)
        return await self.any_line(("reloaded", "reload refused"), after)

    async def any_line(self, messages: tuple[str, ...], after: int) -> dict[str, Any]:
        async def find() -> dict[str, Any] | None:
            return next((one for one in self.lines[after:] if one["message"] in messages), None)

        return await eventually(find)

    async def access(self, request_id: str) -> dict[str, Any]:
        """The access log's line for a request id."""

        async def find() -> dict[str, Any] | None:
            if not self.access_log.exists():
                return None
            for raw in self.access_log.read_text().splitlines():
                line: dict[str, Any] = json.loads(raw)
                if line["request_id"] == request_id:
                    return line
            return None

        return await eventually(find)

    async def metric(self, name: str) -> float:
        """The value of a series, as it stands in the exposition; 0 when it is not there."""
        text = (await self.get("/metrics")).body.decode()
        for line in text.splitlines():
            series, _, value = line.rpartition(" ")
            if series == name:
                return float(value)
        return 0.0

    async def in_flight(self, exchanges: int) -> bool:
        """Whether there are so many exchanges, but for the scrape that tells it."""
        return await self.metric("siger_http_requests_in_flight") == exchanges + 1

    async def get(self, path: str, *fields: str) -> Answer:
        return await self.request(f"GET {path}", *fields)

    async def request(self, line: str, *fields: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        async with self.connect() as client:
            return await client.request(line, *fields, body=body)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        name = {"server_hostname": "gateway.test"} if self.tls is not None else {}
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, **name)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            try:
                async with asyncio.timeout(1.0):  # for what is still to be sent
                    await writer.wait_closed()
            except TimeoutError:
                writer.transport.abort()  # of one that is closed it raises AttributeError (3.11)
            except OSError:
                pass


@dataclass
class Answer:
    """A response as it came; names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A client that writes and reads bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(self, line: str, *fields: str, body: bytes = b"") -> Answer:
        lines = [f"{line} HTTP/1.1", "Host: gateway.test", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return await self.answer(head_only=line.startswith("HEAD "))

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(BOUND):
            raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *rest = raw.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in rest]
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    async def answer(self, *, head_only: bool = False) -> Answer:
        """The next response, whole. Raises ``IncompleteReadError`` when it is broken off."""
        status, headers = await self.head()
        body = b""
        async with asyncio.timeout(BOUND):
            if head_only or status in (204, 304) or status < 200:
                pass
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            elif headers.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
            else:
                body = await self.reader.read()
        return Answer(status, headers, body)

    async def at_eof(self) -> bool:
        """Waits for the end of the stream: True, or False when more bytes come."""
        async with asyncio.timeout(BOUND):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


Script = Callable[["Upstream", "Served"], Awaitable[None]]


@dataclass
class Served:
    """One request as a service saw it, and the connection to answer on."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode()

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        pairs = [line.partition(": ") for line in lines]
        return [(name.lower(), value) for name, _, value in pairs]

    def field(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    async def body(self) -> bytes:
        """The whole request body."""
        if self.field("transfer-encoding"):
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        length = self.field("content-length")
        return await self.reader.readexactly(int(length[0])) if length else b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ok(self, body: bytes = b"ok", *fields: bytes) -> None:
        head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", b""]
        await self.send(b"\r\n".join(head) + body)


@dataclass
class Upstream:
    """A service that does what its script says, for every request on every connection."""

    script: Script
    port: int = 0
    served: list[Served] = field(default_factory=list)
    connections: int = 0
    closed: int = 0
    tls: ssl.SSLContext | None = None
    _leaving: bool = False
    _resting: set[asyncio.Task[Any]] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens; again, after it left, on the same port."""
        self._leaving = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not self._leaving:
                self._resting.add(task)
                head = await reader.readuntil(b"\r\n\r\n")
                self._resting.discard(task)
                served = Served(head, reader, writer)
                self.served.append(served)
                await self.script(self, served)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.closed += 1
            self._tasks.discard(task)
            self._resting.discard(task)
            writer.close()

    async def leave(self) -> None:
        """As at a deploy: listens no more, finishes what it has begun, and closes every connection
        as soon as no request is being answered on it, without a word before."""
        assert self._server is not None
        self._server.close()
        self._leaving = True
        for task in list(self._resting):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Stops listening and cuts every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def answer_ok(upstream: Upstream, served: Served) -> None:
    """Reads the request and answers with who answered."""
    await served.body()
    await served.ok(b"%d" % upstream.port)


async def eventually(find: Callable[[], Awaitable[Any]], bound: float = BOUND) -> Any:
    """The first true answer of ``find``, asked again and again for ``bound`` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + bound
    while True:
        found = await find()
        if found or loop.time() > deadline:
            assert found, f"not within {bound} s"
            return found
        await asyncio.sleep(0.02)
