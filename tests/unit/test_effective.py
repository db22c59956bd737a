"""The effective routes: what is exposed, and what never is."""

from __future__ import annotations

from siger_gateway.config.schema import Config, RegisterConfig, ServiceConfig
from siger_gateway.routing.effective import effective_routes, effective_services


def test_only_named_services_are_exposed_and_a_star_leaves_the_infrastructure_out() -> None:
    services = {"local": ServiceConfig(consul="x")}
    named = Config(services=services, expose_services=("billing",))
    assert set(effective_services(named)) == {"local", "billing"}
    assert [one.name for one in effective_routes(named) if one.service] == ["services/billing"]
    every = Config(services=services, expose_services=("*",), register=RegisterConfig(name="me"))
    names = {one.service for one in effective_routes(every, ("a", "consul", "me")) if one.service}
    assert names == {"local", "a"}
