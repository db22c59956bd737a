"""Large bodies arrive whole and pass through little memory; ``make campaign`` sends a GiB."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, Services
from tests.transfer import ALLOWED_GROWTH, FRAMINGS, MEBIBYTE, sha256, transfer


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_large_body_arrives_whole_both_ways_through_little_memory(
    serve: Serve, services: Services, framing: str
) -> None:
    size = 64 * MEBIBYTE
    uploaded, downloaded, growth = await transfer(serve, services, size, framing)
    assert uploaded == downloaded == sha256(size)
    assert growth < ALLOWED_GROWTH
