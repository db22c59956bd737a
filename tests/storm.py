"""Five endpoints, four of them sick, each in its own way, and clients that do not wait for each
other: GETs at a steady rate, and POSTs beside them of which none may reach two services."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import Serve, Services
from tests.peers import free_port
from tests.running import RunningGateway, Served, Upstream, eventually

POSTS = 10
"""One request of so many is a POST, in addition to the GETs."""
BOUND = 20.0

CONFIG = """\
consul_address: ""
nats_address: ""
services:
  s:
    endpoints: {endpoints}
    health_check: {{path: /health, interval: 500ms, timeout: 400ms, unhealthy: 2}}
    outlier: {{errors: 3, eject_for: 30s, max_ejected: 80%}}
routes:
  - name: r
    match: {{path_prefix: /}}
    service: s
    timeout: 10s
    retry: {{attempts: 5, on: [connect, reset, 502, 503, 504], per_try_timeout: 500ms}}
"""


@dataclass
class Storm:
    """What became of the requests."""

    asked: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    last_failure: float = 0.0
    """Seconds after the beginning."""
    posts: Counter[str] = field(default_factory=Counter)
    """Status, or how it failed -> how many POSTs ended so."""
    posts_seen: Counter[str] = field(default_factory=Counter)
    """Number of a POST -> how many services have seen a byte of it."""
    gets_seen: int = 0
    retries: float = 0.0

    def __repr__(self) -> str:
        share = 100 * self.answered / max(1, self.asked)
        attempts = self.gets_seen / max(1, self.asked)
        return (
            f"{self.asked} GETs, {self.answered} answered 200 ({share:.2f} %), "
            f"failed: {dict(self.failed)}, the last after {self.last_failure:.1f} s; "
            f"{attempts:.3f} attempts at services per GET, {self.retries:.0f} retries in all; "
            f"POSTs: {dict(self.posts)}"
        )

    # What the services do.

    async def well(self, upstream: Upstream, served: Served) -> None:
        await self._seen(served)
        await served.ok(b"well")

    async def overloaded(self, upstream: Upstream, served: Served) -> None:
        await self._seen(served)
        await served.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    async def hanging(self, upstream: Upstream, served: Served) -> None:
        await self._seen(served)
        await served.reader.read()
        raise EOFError

    async def breaking(self, upstream: Upstream, served: Served) -> None:
        await self._seen(served)
        if served.line.startswith("GET /health"):  # which is why only its clients know
            await served.ok()
            return
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        served.writer.transport.abort()
        raise EOFError

    async def _seen(self, served: Served) -> None:
        if served.line.startswith("POST"):
            self.posts_seen[served.line.split()[1]] += 1
            await served.body()
        elif not served.line.startswith("GET /health"):
            self.gets_seen += 1


async def run_storm(serve: Serve, services: Services, rate: int, seconds: float) -> Storm:
    """``rate`` GETs a second, for so many seconds, whatever becomes of them."""
    storm = Storm()
    sick = (storm.overloaded, storm.hanging, storm.breaking)
    upstreams = await services(storm.well, *sick)
    addresses = [upstream.address for upstream in upstreams]
    gateway = await serve(CONFIG.format(endpoints=[f"127.0.0.1:{free_port()}", *addresses]))
    clients = Clients(gateway, storm)
    await clients.send(rate, seconds)
    text = (await gateway.get("/metrics")).body.decode()
    for line in text.splitlines():
        if line.startswith("siger_retries_total{"):
            storm.retries += float(line.rpartition(" ")[2])

    await eventually(lambda: gateway.in_flight(0))
    return storm


class Clients:
    """Kept connections, as many as it takes: one more whenever none is free."""

    def __init__(self, gateway: RunningGateway, storm: Storm) -> None:
        self._gateway = gateway
        self._storm = storm
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, rate: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._start = loop.time()
        for number in range(int(rate * seconds)):
            due = self._start + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            self._begin(self._get())
            if number % POSTS == 0:
                self._begin(self._post(number))
        await asyncio.gather(*self._tasks)
        for _, writer in self._free:
            writer.transport.abort()

    def _begin(self, request: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(request)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _get(self) -> None:
        self._storm.asked += 1
        outcome = await self._exchange(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        if outcome == "200":
            self._storm.answered += 1
        else:
            self._storm.failed[outcome] += 1
            self._storm.last_failure = asyncio.get_running_loop().time() - self._start

    async def _post(self, number: int) -> None:
        head = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
        self._storm.posts[await self._exchange(head % number)] += 1

    async def _exchange(self, request: bytes) -> str:
        """The status with the reason, or how it failed."""
        connection = None
        try:
            async with asyncio.timeout(BOUND):
                if self._free:
                    connection = self._free.pop()
                else:
                    connection = await asyncio.open_connection("127.0.0.1", self._gateway.port)
                reader, writer = connection
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length))
                if b"connection: close" not in head.lower():
                    self._free.append(connection)
                    connection = None
                reason = body.partition(b'"reason":"')[2].partition(b'"')[0]
                return b" ".join([head[9:12], reason]).strip().decode()
        except (OSError, EOFError, TimeoutError) as error:
            return type(error).__name__
        finally:
            if connection is not None:
                connection[1].transport.abort()
                with contextlib.suppress(OSError):
                    await connection[1].wait_closed()
