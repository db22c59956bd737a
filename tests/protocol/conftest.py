"""One gateway and one service for all cases of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.protocol.harness import Ends, Scripted
from tests.running import RunningGateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    service = Scripted()
    await service.start()
    gateway = RunningGateway(Path(tmp_path_factory.mktemp("gateway")), service.config())
    try:
        await gateway.start()
        yield gateway, service
    finally:
        await gateway.stop()
        await service.stop()
