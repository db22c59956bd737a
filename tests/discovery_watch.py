"""A Consul watcher under test, what it published, and an agent that answers as a test tells it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.consul import ConsulWatcher
from siger_gateway.discovery.snapshot import Snapshot
from siger_gateway.telemetry.metrics import Metrics

BOUND = 15.0
"""Seconds in which whatever a test waits for has to happen."""


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Waits until ``holds()`` is true; fails after ``BOUND`` seconds."""
    deadline = time.monotonic() + BOUND
    while not holds():
        assert time.monotonic() < deadline, f"did not happen: {what}"
        await asyncio.sleep(0.005)


def open_sockets() -> int:
    """Sockets that this process has open."""
    found = 0
    for one in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{one}").startswith("socket:")
        except OSError:  # the folder's own descriptor
            continue
    return found


class Watch:
    """An async context manager around a watcher: ``async with Watch(address, "users") as watch``.

    ``history`` is everything that was published, in order: service and addresses with weights.
    """

    def __init__(
        self, address: str, *services: str, token: str = "", snapshot: Path | None = None,
        all_names: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        self.history: list[tuple[str, tuple[EndpointSpec, ...]]] = []
        self.catalogs: list[dict[str, tuple[str, ...]]] = []
        self.metrics = Metrics()
        self.watcher = ConsulWatcher(
            address,
            token,
            publish=lambda name, endpoints: self.history.append((name, endpoints)),
            publish_catalog=self._on_catalog if all_names else None,
            snapshot=Snapshot(snapshot, delay=0.01) if snapshot is not None else None,
            metrics=self.metrics,
            services=services,
            **options,
        )

    def _on_catalog(self, catalog: dict[str, tuple[str, ...]]) -> None:
        self.catalogs.append(catalog)
        self.watcher.set_services({*catalog} - {"consul"})  # as the gateway does

    @property
    def names(self) -> list[tuple[str, ...]]:
        """The names of every catalog that was published."""
        return [tuple(catalog) for catalog in self.catalogs]

    async def __aenter__(self) -> Watch:
        self.watcher.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watcher.close()

    def table(self, service: str = "users") -> list[str] | None:
        """The addresses last published; None: nothing was."""
        for name, endpoints in reversed(self.history):
            if name == service:
                return [one.address for one in endpoints]
        return None

    async def until(self, *addresses: str, service: str = "users") -> None:
        """Waits until that is the table."""
        await eventually(lambda: self.table(service) == [*addresses], f"{addresses}")

    def sample(self, source: str = "consul") -> float | None:
        """The age as Prometheus would see it."""
        text = self.metrics.render("text/plain")[0].decode()
        for line in text.splitlines():
            if line.startswith(f'siger_discovery_age_seconds{{source="{source}"}}'):
                return float(line.rpartition(" ")[2])
        return None


Answer = tuple[int, dict[str, str], str]
"""Status, header fields, body."""


class FakeAgent:
    """Answers by ``answer``, which a test may replace at any time, and remembers what was asked."""

    def __init__(self, answer: Callable[[HTTPServerRequest], Awaitable[Answer] | Answer]) -> None:
        self.answer = answer
        self.requests: list[HTTPServerRequest] = []

    async def __aenter__(self) -> FakeAgent:
        fake = self

        class Handler(RequestHandler):
            async def get(self) -> None:
                fake.requests.append(self.request)
                answer = fake.answer(self.request)
                status, headers, body = await answer if isinstance(answer, Awaitable) else answer
                self.set_status(status)
                for name, value in headers.items():
                    self.set_header(name, value)
                self.finish(body)

            put = get

        sockets = bind_sockets(0, "127.0.0.1")
        self.address = f"127.0.0.1:{sockets[0].getsockname()[1]}"
        self._server = HTTPServer(Application([(".*", Handler)], log_function=lambda _: None))
        self._server.add_sockets(sockets)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.stop()
        await self._server.close_all_connections()
