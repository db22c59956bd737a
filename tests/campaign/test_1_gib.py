"""1 GiB up and 1 GiB down through the gateway, whole, in less than 16 MiB."""

from __future__ import annotations

import time

import pytest

from tests.campaign.conftest import Tell
from tests.conftest import Serve, Services
from tests.transfer import ALLOWED_GROWTH, FRAMINGS, MEBIBYTE, sha256, transfer

SIZE = 1024 * MEBIBYTE


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_1_gib_arrives_whole_both_ways_through_little_memory(
    serve: Serve, services: Services, framing: str, tell: Tell
) -> None:
    started = time.perf_counter()
    uploaded, downloaded, growth = await transfer(serve, services, SIZE, framing)
    seconds = time.perf_counter() - started
    tell(f"memory grew by {growth / MEBIBYTE:.1f} MiB; {seconds:.1f} s, hashing included")
    assert uploaded == downloaded == sha256(SIZE)
    assert growth < ALLOWED_GROWTH
