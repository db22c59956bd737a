"""Fixtures of the integration tests (real processes and real services on free ports), and how
hypothesis runs."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests.running import RunningGateway, Script, Upstream

# The same examples in every run, and no deadline: a busy machine is not a failure.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("ci")

Serve = Callable[[str], Awaitable[RunningGateway]]
Join = Callable[[str], Awaitable[RunningGateway]]
Services = Callable[..., Awaitable[list[Upstream]]]


class Gateways:
    """Gateways started in ``folder``, each in one of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[RunningGateway] = []

    async def serve(self, config: str) -> RunningGateway:
        """Starts one on a port of its own."""
        return await self._start(config, port=0)

    async def join(self, config: str) -> RunningGateway:
        """Starts one on the port of the first one; see ``reuse_port``."""
        return await self._start(config, port=self._started[0].port if self._started else 0)

    async def _start(self, config: str, port: int) -> RunningGateway:
        folder = self._folder / f"gateway{len(self._started)}"
        folder.mkdir()
        gateway = RunningGateway(folder, config)
        if port:
            gateway.port = port
            gateway.write_config(config)
        self._started.append(gateway)
        await gateway.start()
        return gateway

    async def stop(self) -> None:
        for gateway in self._started:
            await gateway.stop()


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    """All that it starts are killed at the end."""
    gateways = Gateways(tmp_path)
    yield gateways
    await gateways.stop()


@pytest.fixture
def serve(gateways: Gateways) -> Serve:
    """``await serve(yaml)`` starts a gateway."""
    return gateways.serve


@pytest.fixture
def join(gateways: Gateways) -> Join:
    """``await join(yaml)`` starts a gateway on the port of the first one."""
    return gateways.join


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    """``await services(script, script)`` starts a service for each script, TLS with ``tls``."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*scripts: Script, tls: ssl.SSLContext | None = None) -> list[Upstream]:
            upstreams = [Upstream(script, tls=tls) for script in scripts]
            for upstream in upstreams:
                await upstream.start()
                stack.push_async_callback(upstream.stop)
            return upstreams

        yield start
