"""What the modules about clients that lie share: two gateways and a service for all their cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests import spoofing
from tests.spoofing import World


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    world = await spoofing.start(Path(tmp_path_factory.mktemp("spoofing")))
    try:
        yield world
    finally:
        await world.direct.stop()
        await world.behind.stop()
        await world.upstream.stop()
