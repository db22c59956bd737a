"""The jobs side of a gateway for tests: queue, ledger and endpoints on the gateway's own wire.

Who calls is what ``caller`` makes of a request; ``who_says_so`` believes a field of the request in
place of a token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from siger_gateway.api.direct import DirectJobs
from siger_gateway.api.handler import NotFoundHandler, log_request
from siger_gateway.api.jobs import jobs_routes
from siger_gateway.config.schema import JobsConfig, LimitsConfig
from siger_gateway.errors import GatewayError
from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.http.tornado import Caller, Endpoints, TornadoConsumer
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.jobs.worker import Worker
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.forwarded import request_id
from siger_gateway.proxy.reply import send_problem
from siger_gateway.telemetry.metrics import Metrics

BOUND = 15.0
"""Seconds in which whatever a test waits for has to happen."""
JOBS = "/api/v1/jobs"


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Waits until ``holds()`` is true; fails after ``BOUND`` seconds."""
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        await asyncio.sleep(0.005)


def nobody_is_asked(request: Request) -> Caller | None:
    """Authentication is off."""
    return None


def who_says_so(request: Request) -> Caller | None:
    """Authentication is optional, and everybody is believed; see ``saying``."""
    user, _, role = request.fields.get(b"x-caller", b"").decode().partition("/")
    return Caller(user, frozenset({role} if role else ()))


def saying(user: str, role: str = "user") -> dict[str, str]:
    """The fields of a request of this user, for ``who_says_so``."""
    return {"X-Caller": f"{user}/{role}"}


class JobsGateway:
    """An async context manager; ``config`` are fields of ``JobsConfig``.

    ``caller`` says who sends a request; another one may be assigned, as a reload does.
    """

    def __init__(self, address: str, **config: Any) -> None:
        self.caller = nobody_is_asked
        self.metrics = Metrics()
        self.queue = JobQueue(JobsConfig(**config), address, self.metrics)
        self.ledger = Ledger(self.queue, self.metrics)
        self._application = Endpoints(
            jobs_routes(self.queue, self.ledger),
            DirectJobs(self.queue, self.ledger) if self.queue.enabled else None,
            default_handler_class=NotFoundHandler,
            log_function=log_request,
        )
        limits = LimitsConfig()
        self._listener = Listener(
            self,
            ServerLimits(
                limits.header_bytes,
                limits.body,
                limits.header_timeout,
                limits.idle_timeout,
                limits.connections,
                limits.header_count,
            ),
        )
        self._client = AsyncHTTPClient(force_instance=True)

    @property
    def port(self) -> int:
        return self._listener.port

    def dispatch(self, request: Request, stream: DownstreamStream) -> TornadoConsumer:
        """Part of ``http.stream.Handler``: every request is for the endpoints."""
        identity = request_id(request.fields)

        def reject(error: ProtocolError) -> None:
            problem = GatewayError(error.reason, error.detail)
            send_problem(stream, problem, request=request, request_id=identity)

        return TornadoConsumer(
            self._application,
            request,
            stream,
            identity,
            lambda headers: headers,
            reject,
            lambda status, reason: None,
            "127.0.0.1",
            self.caller(request),
        )

    def reject(self, error: ProtocolError, stream: DownstreamStream) -> None:
        raise AssertionError(f"a test sends what is no request: {error.detail}")

    async def __aenter__(self) -> JobsGateway:
        await self._listener.start("127.0.0.1", 0)
        self.queue.start()
        self.ledger.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.ledger.release()
        self._client.close()
        async with asyncio.timeout(BOUND):
            await self._listener.drain(0.0, 0.0)
            await self.ledger.close()
            await self.queue.close()

    async def live(self) -> JobsGateway:
        await eventually(lambda: self.queue.connected and self.ledger.live, "connected and live")
        return self

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request. ``body``: bytes, or what is sent as JSON."""
        fields = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = orjson.dumps(body)
            fields.setdefault("Content-Type", "application/json")
        request = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            body=body,
            headers=fields,
            allow_nonstandard_methods=True,
            follow_redirects=False,
            request_timeout=BOUND,
        )
        response = await self._client.fetch(request, raise_error=False)
        return Answer(response.code, response.headers, response.body or b"")

    async def submit(self, key: str = "", **fields: Any) -> str:
        """Submits a job and returns its id."""
        headers = {"Idempotency-Key": key} if key else {}
        body = {"type": "train", "name": "a job", **fields}
        answer = await self.call("POST", JOBS, body, headers)
        assert answer.status == 202, answer
        return str(answer.json["job_id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"{JOBS}/{job_id}")
        assert answer.status == 200, answer
        return dict(answer.json)

    async def until(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Long-polls until the job has one of these states."""
        deadline = time.monotonic() + BOUND
        tag = ""
        while True:
            headers = {"If-None-Match": tag} if tag else {}
            query = "?wait=1s" if tag else ""
            answer = await self.call("GET", f"{JOBS}/{job_id}{query}", headers=headers)
            if answer.status == 200 and answer.json["status"] in statuses:
                return dict(answer.json)
            assert answer.status in (200, 304), answer
            assert time.monotonic() < deadline, f"{job_id} is not {statuses}: {answer}"
            tag = answer.headers["ETag"]

    async def report(self, job_id: str, **event: Any) -> None:
        """A status message as a daemon sends it: core NATS, no confirmation."""
        client = self.queue.connection.client()
        await client.publish(self.queue.subjects.status(job_id), orjson.dumps(event))
        await client.flush()

    @asynccontextmanager
    async def events(self, job_id: str, last_id: int | None = None) -> AsyncIterator[EventStream]:
        """An open event stream over a raw socket."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        last = f"Last-Event-ID: {last_id}\r\n" if last_id is not None else ""
        writer.write(f"GET {JOBS}/{job_id}/events HTTP/1.1\r\nHost: test\r\n{last}\r\n".encode())
        try:
            async with asyncio.timeout(BOUND):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            yield EventStream(int(head.split()[1]), head.lower(), reader)
        finally:
            writer.close()
            await writer.wait_closed()


class EventStream:
    """Server-sent events, decoded from chunks."""

    def __init__(self, status: int, head: str, reader: asyncio.StreamReader) -> None:
        self.status = status
        self.head = head
        self._reader = reader
        self._text = b""

    async def next(self) -> tuple[int, dict[str, Any]] | None:
        """The next event as ``(id, data)``; None: the stream has ended."""
        while True:
            block = await self._block()
            if block is None:
                return None
            fields = dict(
                line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
            )
            if "data" in fields:
                return int(fields["id"]), orjson.loads(fields["data"])

    async def all(self) -> list[tuple[int, dict[str, Any]]]:
        """Every event to the end."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events

    async def _block(self) -> str | None:
        async with asyncio.timeout(BOUND):
            while b"\n\n" not in self._text:
                size = int(await self._reader.readline(), 16)
                chunk = await self._reader.readexactly(size + 2)
                if not size:
                    return None
                self._text += chunk[:-2]
        block, self._text = self._text.split(b"\n\n", 1)
        return block.decode()


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[Worker]:
    """A worker that runs for as long as the context lasts."""
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        async with asyncio.timeout(BOUND):
            await task
