"""One gateway and one service for all cases of a module; and what is said over HTTP/2 is answered
alike, whether or not HTTP/1.1 has to be served beside it (``http2.run_queue``)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.protocol import wired2
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of HTTP/2 in process twice."""
    if hasattr(metafunc.module, "Wired2"):
        metafunc.parametrize("turns", ["at once", "in turns"], indirect=True)


@pytest.fixture(autouse=True)
def turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(request, "param", "") == "in turns":
        monkeypatch.setattr(wired2, "beside_http1", True)
