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


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """``await serve(yaml)`` starts a gateway; all are killed at the end."""
    started: list[RunningGateway] = []

    async def start(config: str) -> RunningGateway:
        folder = tmp_path / f"gateway{len(started)}"
        folder.mkdir()
        gateway = RunningGateway(folder, config)
        started.append(gateway)
        await gateway.start()
        return gateway

    yield start
    for gateway in started:
        await gateway.stop()


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    """``await join(yaml)`` starts a gateway on the port of the first one; see ``reuse_port``."""
    started: list[RunningGateway] = []

    async def start(config: str) -> RunningGateway:
        folder = tmp_path / f"sharing{len(started)}"
        folder.mkdir()
        gateway = RunningGateway(folder, config)
        if started:
            gateway.port = started[0].port
            gateway.write_config(config)
        started.append(gateway)
        await gateway.start()
        return gateway

    yield start
    for gateway in started:
        await gateway.stop()


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
