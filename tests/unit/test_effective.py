"""The effective routes: what is exposed, and what never is."""

from __future__ import annotations

from collections.abc import Iterator

from siger_gateway.config.check import OWN_SERVICES
from siger_gateway.config.policies import RouteLimitsConfig
from siger_gateway.config.schema import (
    AuthConfig,
    Config,
    JobsConfig,
    MatchConfig,
    RegisterConfig,
    RouteConfig,
    ServiceConfig,
)
from siger_gateway.grpc.protos.grpc_health.v1 import health_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1alpha import reflection_pb2 as alpha_pb2
from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
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


def test_calls_of_the_jobs_have_their_policy_and_health_has_none() -> None:
    config = Config(
        jobs=JobsConfig(roles=("ops",), auth="required"), auth=AuthConfig(default="optional")
    )
    found = {one.config.match.path: one.config for one in effective(config).routes}
    jobs = found["/siger.jobs.v1.Jobs/Submit"]
    assert (jobs.name, jobs.roles, jobs.auth) == ("jobs", ("ops",), "required")
    assert found["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"].auth == "optional"
    assert not found["/grpc.health.v1.Health/Check"].asks_who


def test_every_own_service_has_a_route_for_each_of_its_methods_and_no_more() -> None:
    described = {
        f"/{service.full_name}/{method.name}"
        for module in (jobs_pb2, health_pb2, reflection_pb2, alpha_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    own = {one.config.match.path for one in effective(Config()).routes if one.origin == "gateway"}
    assert {path for path in own if path.count(".") > 1} == described
    assert {path.rpartition("/")[0] for path in described} == set(OWN_SERVICES)
