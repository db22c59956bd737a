"""The effective routes: what is exposed, and what never is."""

from __future__ import annotations

from siger_gateway.config.schema import Config, RegisterConfig, ServiceConfig
from siger_gateway.routing.effective import effective


def test_only_named_services_are_exposed_and_a_star_leaves_the_infrastructure_out() -> None:
    services = {"local": ServiceConfig(consul="x")}
    named = effective(Config(services=services, expose_services=("billing",)))
    assert set(named.services) == {"local", "billing"}
    found = [one.config.name for one in named.routes if one.origin != "gateway"]
    assert found == ["services/billing"]
    every = Config(services=services, expose_services=("*",), register=RegisterConfig(name="me"))
    catalog: dict[str, tuple[str, ...]] = {"a": (), "consul": (), "me": ()}
    routes = effective(every, catalog).routes
    assert {one.config.service for one in routes if one.origin != "gateway"} == {"local", "a"}
