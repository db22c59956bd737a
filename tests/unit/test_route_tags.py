"""Routes from tags in Consul: what a tag may ask for, and what it never gets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.load import loads
from siger_gateway.config.policies import AuthConfig, JwtConfig, Mode
from siger_gateway.config.schema import (
    Config,
    EndpointSpec,
    MatchConfig,
    RouteConfig,
    ServiceConfig,
)
from siger_gateway.routing.describe import describe
from siger_gateway.routing.effective import effective
from siger_gateway.routing.tags import MAX_ROUTES, routes_from_tags


def tags(*rest: str) -> list[str]:
    return [f"siger.{one}" for one in rest]


def test_a_path_prefix_is_all_that_a_route_takes() -> None:
    wanted = routes_from_tags("users", ["v1", "siger", *tags("path_prefix=/api/v1/users")])
    route = RouteConfig("consul/users", MatchConfig(path_prefix="/api/v1/users"), "users")
    assert wanted.routes == (route,)
    assert wanted.service == ServiceConfig(consul="users")
    assert wanted.problems == ()


def test_every_key_arrives_in_its_field() -> None:
    wanted = routes_from_tags(
        "users",
        tags(
            "path=/api/{id}",
            "path_prefix=/api/v1",
            "strip_prefix=/api",
            "host=a.test",
            "methods=GET, POST",
            "timeout=1.5s",
            "balance=random",
            "protocol=http",
            "auth=none",
        ),
    )
    assert wanted.problems == ()
    assert wanted.service == ServiceConfig(consul="users", balance="random")
    methods = ("GET", "POST")
    name, auth = "consul/users", "none"
    paths = (
        MatchConfig("/api/{id}", "", methods, "a.test"),
        MatchConfig("", "/api/v1", methods, "a.test"),
    )
    assert wanted.routes == tuple(
        RouteConfig(name, match, "users", "/api", 1.5, auth=auth) for match in paths
    )


MEANS = AuthConfig(jwt=JwtConfig(secret="s" * 32))


@pytest.mark.parametrize(
    ("asked", "default", "auth"),
    [
        (["auth=required"], "none", "required"),
        (["auth=none", "auth=optional"], "none", "optional"),
        (["auth=none"], "required", "required"),
        (["auth=optional"], "required", "required"),
        (["auth=required"], "optional", "required"),
        (["roles=admin"], "none", "required"),
        (["auth=optional", "scopes=a,b"], "none", "required"),
        ([], "required", "required"),
    ],
)
def test_the_strictest_of_instances_and_file_holds(
    asked: list[str], default: Mode, auth: str
) -> None:
    wanted = routes_from_tags("s", tags("path=/a", *asked), replace(MEANS, default=default))
    assert [route.auth for route in wanted.routes] == [auth]
    assert wanted.problems == ()


def test_roles_and_scopes_come_from_tags() -> None:
    (route,) = routes_from_tags(
        "s", tags("path=/a", "roles=b, a", "scopes=x", "scopes=y"), MEANS
    ).routes
    assert (route.roles, route.scopes) == (("a", "b"), ("x", "y"))


def test_instances_that_want_different_roles_get_no_route() -> None:
    wanted = routes_from_tags("s", tags("path=/a", "roles=a", "roles=a,b"), MEANS)
    assert wanted.routes == ()
    assert wanted.problems[0] == "siger.roles: instances differ"


def test_tags_of_differing_instances_are_taken_together() -> None:
    wanted = routes_from_tags(
        "users",
        tags(
            *("path_prefix=/a", "path_prefix=/a/b", "strip_prefix=/a", "strip_prefix=/a/b"),
            *("host=h.test", "host=g.test", "methods=GET", "methods=GET,PUT"),
            *("timeout=5s", "timeout=10s", "balance=round_robin", "balance=random"),
        ),
    )
    assert [
        (route.match.path_prefix, route.match.host, route.strip_prefix) for route in wanted.routes
    ] == [
        ("/a", "g.test", "/a"),
        ("/a", "h.test", "/a"),
        ("/a/b", "g.test", "/a/b"),
        ("/a/b", "h.test", "/a/b"),
    ]
    assert {(route.match.methods, route.timeout) for route in wanted.routes} == {
        (("GET", "PUT"), 5.0)
    }
    assert wanted.service.balance == "random"
    assert wanted.problems == (
        "siger.timeout: instances differ; 5.0 is used",
        "siger.balance: instances differ; random is used",
    )


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("auth=required", "nobody could show who it is"),
        ("auth=optional", "nobody could show who it is"),
        ("auth", "the value is missing"),
        ("auth=maybe", "expected one of"),
        ("roles=a b", "a word without spaces"),
        ("rate_limit=5", "unknown; there are siger.auth"),
        ("pathprefix=/x", "unknown; there are siger.auth"),
        ("=x", "unknown; there are siger.auth"),
        ("Host=a.test", "unknown"),
        ("host=A.test", "lower case"),
        ("host=", "the value is missing"),
        ("methods=get", "case-sensitive"),
        ("methods=GET,", "an HTTP method"),
        ("strip_prefix=a", 'begins with "/"'),
        ("protocol=gopher", "found"),
    ],
)
def test_a_tag_that_may_have_been_meant_to_protect_takes_all_routes_away(
    bad: str, reason: str
) -> None:
    wanted = routes_from_tags("users", tags("path_prefix=/a", bad))
    assert wanted.routes == ()
    assert wanted.problems[0].startswith(f"siger.{bad}: ")
    assert reason in wanted.problems[0]
    assert wanted.problems[1:] == ("none of its routes is used",)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("timeout=5", "the unit is missing"),
        ("timeout=0s", "at least 1ms"),
        ("balance=best", "expected one of"),
        ("path=b", 'begins with "/"'),
        ("path=/b/../c", "dot segments"),
        ("path=/{b}/c", "first segment"),
        ("path_prefix=/b/{c}", "only match.path"),
        ("path_prefix=/b/", "a segment is empty"),
        ("path=", "the value is missing"),
        ("path=/a\r\nx", "control characters"),
    ],
)
def test_a_bad_path_timeout_or_balance_costs_no_other_route(bad: str, reason: str) -> None:
    wanted = routes_from_tags("users", tags("path_prefix=/a", bad))
    route = RouteConfig("consul/users", MatchConfig(path_prefix="/a"), "users")
    assert wanted.routes == (route,)
    (problem,) = wanted.problems
    assert reason in problem
    assert problem.isprintable()


def test_a_path_that_cannot_be_stripped_is_left_out() -> None:
    wanted = routes_from_tags("users", tags("path_prefix=/a", "path=/b", "strip_prefix=/a"))
    assert [route.match.path_prefix for route in wanted.routes] == ["/a"]
    assert wanted.problems == ("/b: /a is not how /b begins, in whole segments",)


def test_tags_without_a_path_say_so() -> None:
    wanted = routes_from_tags("users", tags("timeout=5s"))
    assert wanted.routes == ()
    assert wanted.problems == ("there is no siger.path and no siger.path_prefix",)


def test_one_service_cannot_fill_the_table() -> None:
    many = tags(*(f"path=/{number}" for number in range(MAX_ROUTES + 1)))
    assert routes_from_tags("users", many).routes == ()
    assert len(routes_from_tags("users", many[1:]).routes) == MAX_ROUTES


TEXTS = st.text("/{}a.b-*=,:1s%2 \n\x00é", max_size=8)


@given(
    st.lists(
        st.builds(
            "siger.{}={}".format,
            st.sampled_from(["path", "path_prefix", "host", "methods", "timeout", "balance", "x"]),
            TEXTS,
        )
        | TEXTS,
        max_size=5,
    )
)
def test_any_tags_make_valid_routes_or_none(found: list[str]) -> None:
    wanted = routes_from_tags("users", found)
    for route in wanted.routes:
        assert (route.name, route.service) == ("consul/users", "users")
        assert (route.match.path or route.match.path_prefix).startswith("/")
        assert bool(route.match.path) != bool(route.match.path_prefix)
    assert all(problem.isprintable() for problem in wanted.problems)


# Beside the file and the gateway's own endpoints


def origins(config: Config, **catalog: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Service and path of each route from tags, and the problems."""
    found = effective(config, {name: tuple(tags(*one)) for name, one in catalog.items()})
    routes = [
        f"{one.config.service} {one.config.match.path or one.config.match.path_prefix}"
        for one in found.routes
        if one.origin == "consul"
    ]
    return routes, list(found.problems)


@pytest.mark.parametrize(
    "path",
    [
        *("path=/health", "path=/metrics", "path_prefix=/health/live", "path=/openapi.json"),
        *("path_prefix=/api/v1/jobs", "path_prefix=/api/v1/jobs/x", "path=/api/v1/jobs"),
        *("path=/api/v1/jobs/{id}", "path=/api/v1/{x}", "path=/api/{b}/{c}/{d}"),
        *("path_prefix=/services/users", "path=/services/users"),
        *("path_prefix=/grpc.health.v1.Health", "path=/siger.jobs.v1.Jobs/{method}"),
    ],
)
def test_a_tag_never_takes_an_endpoint_of_the_gateway(path: str) -> None:
    config = Config(expose_services=("a",))
    routes, problems = origins(config, users=[path, "path_prefix=/ok"])
    assert routes == ["users /ok"]
    ((service, reason),) = problems
    assert service == "users"
    assert reason.endswith("is an endpoint of the gateway itself")


def test_the_file_keeps_what_it_has_and_so_does_the_service_that_comes_first() -> None:
    config = loads(
        "services: {own: {endpoints: ['a:1']}}\n"
        "routes: [{name: f, service: own, match: {path: '/a/{x}', methods: [GET, PUT]}}]\n",
        environ={},
    ).config
    routes, problems = origins(
        config,
        zebra=["path_prefix=/b"],
        users=["path=/a/{id}", "methods=PUT,GET"],
        orders=["path_prefix=/b"],
    )
    assert routes == ["orders /b"]
    assert problems == [
        ("users", '/a/{id}: the file\'s route "f" matches the same requests'),
        ("zebra", '/b: service "orders" matches the same requests'),
    ]


def test_infrastructure_gets_no_routes() -> None:
    routes, problems = origins(
        Config(), **{"consul": ["path_prefix=/a"], "siger-gateway": ["path_prefix=/b"]}
    )
    assert routes == []
    assert [name for name, _ in problems] == ["consul", "siger-gateway"]


def test_a_tag_leads_to_the_service_that_carries_it_whatever_the_file_calls_so() -> None:
    local = ServiceConfig(endpoints=(EndpointSpec("127.0.0.1:1"),))
    known = ServiceConfig(consul="users", balance="random")
    config = Config(services={"orders": local, "people": known})
    catalog = {
        "orders": ("siger.path_prefix=/o",),
        "users": ("siger.path_prefix=/u", "siger.balance=least_connections"),
        "other": ("siger.path_prefix=/x", "siger.balance=least_connections"),
    }
    found = effective(config, catalog)
    leads = {one.config.name: one.config.service for one in found.routes if one.origin == "consul"}
    assert leads == {
        "consul/orders": "consul/orders",
        "consul/users": "people",
        "consul/other": "other",
    }
    assert found.services["consul/orders"] == ServiceConfig(consul="orders")
    assert found.services["orders"] == local
    assert found.services["people"] == known
    assert found.services["other"] == ServiceConfig(consul="other", balance="least_connections")


def test_tags_can_be_switched_off() -> None:
    assert origins(Config(consul_routes=False), users=["path_prefix=/a", "x=y"]) == ([], [])


def test_routes_are_described_in_words() -> None:
    config = loads(
        "services: {a: {consul: a}, b: {consul: b}}\n"
        "routes:\n"
        "- {name: s, match: {path_prefix: /s}, split: [{service: a, weight: 9}, {service: b}],\n"
        "   rewrite: /t, headers: {request: {set: {x-env: prod}, remove: [cookie]}}}\n"
        "- {name: r, match: {path_prefix: /r}, redirect: {scheme: https, prefix: /n}}\n"
        "- {name: d, match: {path: /d, methods: [GET]}, direct_response: {status: 404}}\n",
        environ={},
    ).config
    found = effective(config, {"c": ("siger.path_prefix=/c", "siger.strip_prefix=/c")})
    rows = [list(describe(one).values()) for one in found.routes if one.origin != "gateway"]
    assert rows == [
        [
            "s",
            "/s/*",
            "a:9 b:1",
            "rewrite /t; request: set x-env, remove cookie",
            "-",
            "30s",
            "file",
        ],
        ["r", "/r/*", "307 https://{host}/n/*", "-", "-", "-", "file"],
        ["d", "GET /d", "404 (fixed)", "-", "-", "-", "file"],
        ["consul/c", "/c/*", "c", "strip /c", "-", "30s", "consul"],
    ]
