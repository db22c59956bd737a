"""The effective routes: what is exposed, and what never is."""

from __future__ import annotations

from collections.abc import Iterator

from siger_gateway.config.policies import RouteLimitsConfig
from siger_gateway.config.schema import (
    Config,
    MatchConfig,
    RegisterConfig,
    RouteConfig,
    ServiceConfig,
)
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


class Counted(tuple[RouteConfig, ...]):
    """Routes that count how often somebody goes through all of them."""

    rounds = 0

    def __iter__(self) -> Iterator[RouteConfig]:
        self.rounds += 1
        return super().__iter__()


def test_the_routes_are_gone_through_a_few_times_however_many_there_are() -> None:
    def rounds(count: int) -> int:
        routes = Counted(
            RouteConfig(f"r{n}", MatchConfig(path=f"/{n}"), "a", limits=RouteLimitsConfig(body=n))
            for n in range(count)
        )
        effective(Config(services={"a": ServiceConfig()}, routes=routes))
        return routes.rounds

    assert rounds(1000) == rounds(10) <= 10
