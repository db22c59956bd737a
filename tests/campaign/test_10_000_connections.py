"""10,000 idle keep-alive connections."""

from __future__ import annotations

import pytest

from tests.campaign.conftest import Tell
from tests.conftest import Serve, Services
from tests.idle import ALLOWED, REQUEST, bytes_per_connection
from tests.running import answer_ok

COUNT = 10_000


@pytest.mark.parametrize("request_bytes", [REQUEST, b""], ids=["after a request", "silent"])
async def test_10_000_idle_connections_cost_little_memory_each(
    serve: Serve, services: Services, request_bytes: bytes, tell: Tell
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        "limits: {connections: 10100, idle_timeout: 300s}\n"
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    each = await bytes_per_connection(gateway, COUNT, request_bytes)
    tell(f"{each / 1024:.1f} KiB of memory each (allowed: {ALLOWED // 1024})")
    assert each <= ALLOWED
