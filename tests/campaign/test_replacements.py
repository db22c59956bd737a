"""Two gateways on one port, each replaced five times under load."""

from __future__ import annotations

from tests.campaign.conftest import Tell
from tests.conftest import Join, Services
from tests.load import replace_gateways, sharing
from tests.running import answer_ok


async def test_no_request_fails_while_gateways_on_one_port_are_replaced(
    join: Join, services: Services, tell: Tell
) -> None:
    (upstream,) = await services(answer_ok)
    loads = await replace_gateways(join, sharing(upstream), rounds=10, clients=20)
    for kind, load in zip(("kept alive", "one request each"), loads, strict=True):
        tell(f"{kind}: {load}")
        assert not load.failed, load
