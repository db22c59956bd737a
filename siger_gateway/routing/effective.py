"""The effective routes of a configuration: the gateway's own, the file's, the exposed services',
and those that services in Consul carry in their tags.

One list, made by one pure function, is what the gateway compiles and what ``routes`` prints, so
the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from typing import Any, Final, Literal

from siger_gateway.config.policies import PolicyConfig
from siger_gateway.config.schema import Config, MatchConfig, RouteConfig, ServiceConfig
from siger_gateway.routing.tags import Catalog, tag_routes

OWN: Final = (
    RouteConfig("health", MatchConfig(path="/health")),
    RouteConfig("health", MatchConfig(path="/health/live")),
    RouteConfig("health", MatchConfig(path="/health/ready")),
    RouteConfig("metrics", MatchConfig(path="/metrics")),
    RouteConfig("openapi", MatchConfig(path="/openapi.json")),
)
"""What the gateway answers itself, and anybody; neither the configuration nor a tag can take these
paths, nor that of the jobs."""

JOBS: Final = MatchConfig(path_prefix="/api/v1/jobs")

CALLS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "health": {"grpc.health.v1.Health": ("Check", "Watch")},
    "reflection": {
        "grpc.reflection.v1.ServerReflection": ("ServerReflectionInfo",),
        "grpc.reflection.v1alpha.ServerReflection": ("ServerReflectionInfo",),
    },
    "jobs": {"siger.jobs.v1.Jobs": ("Submit", "Get", "Cancel", "List", "Watch")},
}
"""The gateway's own services of gRPC, by the name of their routes. Every method is an exact path:
a template of the file, say ``/{tenant}/{id}``, would come before a prefix."""

NEVER_EXPOSED: Final = frozenset({"consul"})
"""Services that ``*`` leaves out: Consul's own agent registers itself."""

NOTHING: Final[Catalog] = {}

Origin = Literal["gateway", "file", "exposed", "consul"]


@dataclass(frozen=True, slots=True)
class EffectiveRoute:
    """One route, and who wants it; those of the gateway itself have no action."""

    config: RouteConfig
    origin: Origin


@dataclass(frozen=True, slots=True)
class Effective:
    """All that there is to compile, with the defaults of the file filled in.

    ``services``: every service that a route may lead to, by name. ``problems``: service in Consul,
    and why its tags do not do what they say.
    """

    routes: tuple[EffectiveRoute, ...]
    services: Mapping[str, ServiceConfig]
    problems: tuple[tuple[str, str], ...]


def effective(config: Config, catalog: Catalog = NOTHING) -> Effective:
    """Everything, the gateway's own first.

    :param catalog: the services in Consul with their tags.
    """
    hidden = NEVER_EXPOSED | {config.register.name}
    exposed = _exposed(config, catalog, hidden)
    tagged = tag_routes(config, catalog, hidden)
    services = {**config.services, **tagged.services}
    for name in exposed:
        services.setdefault(name, ServiceConfig(consul=name))
    jobs = jobs_route(config)
    wanted: list[tuple[RouteConfig, Origin]] = [(jobs, "gateway")]
    if has_protobuf():
        wanted += [(replace(jobs, match=one.match), "gateway") for one in _calls("jobs")]
        # What it tells is about services that may want to know who asks: so has it.
        wanted += [(one, "gateway") for one in _calls("reflection")]
    wanted += [(route, "file") for route in config.routes]
    wanted += [(_exposing(name), "exposed") for name in exposed]
    wanted += [(route, "consul") for route in tagged.routes]
    open_to_all = [*OWN, *(_calls("health") if has_protobuf() else ())]
    routes = [EffectiveRoute(route, "gateway") for route in open_to_all]
    body = config.limits.body if largest_body(config) > config.limits.body else 0
    routes += [
        EffectiveRoute(_with_defaults(route, config, body), origin) for route, origin in wanted
    ]
    return Effective(tuple(routes), services, tagged.problems)


def _calls(name: str) -> list[RouteConfig]:
    return [
        RouteConfig(name, MatchConfig(path=f"/{service}/{method}"))
        for service, methods in CALLS[name].items()
        for method in methods
    ]


def has_protobuf() -> bool:
    """Whether the extra ``grpc`` is installed, without loading it."""
    try:
        return find_spec("google.protobuf") is not None
    except ModuleNotFoundError:  # no "google" at all
        return False


def jobs_route(config: Config) -> RouteConfig:
    """The jobs API, with its policy."""
    return RouteConfig("jobs", JOBS, **policy_of(config.jobs))


def admin_route(config: Config) -> RouteConfig:
    """All of the admin listener, with its policy."""
    route = RouteConfig("admin", MatchConfig(path_prefix="/"), **policy_of(config.admin))
    return replace(route, auth=route.auth or config.auth.default)


def targets_of(route: RouteConfig) -> list[str]:
    """The services that it leads to."""
    return [one.service for one in route.split] or ([route.service] if route.service else [])


def policy_of(config: PolicyConfig) -> dict[str, Any]:
    """What ``config`` says of who gets in, as arguments of another."""
    return {one.name: getattr(config, one.name) for one in fields(PolicyConfig)}


def largest_body(config: Config) -> int:
    """Bytes of the largest request body that any route takes."""
    bodies = [one.limits.body for one in (config.jobs, *config.routes)]
    return max(config.limits.body, *bodies)


def _with_defaults(route: RouteConfig, config: Config, body: int) -> RouteConfig:
    """:param body: bytes that a route without a limit of its own takes; 0: what the wire takes.
    Where the wire lets pass what some other route takes, this one has to look itself."""
    limits = route.limits
    return replace(
        route,
        auth=route.auth or config.auth.default,
        cors=route.cors if route.cors.origins else config.cors,
        limits=limits if limits.body or not body else replace(limits, body=body),
    )


def _exposing(name: str) -> RouteConfig:
    prefix = f"/services/{name}"
    return RouteConfig(f"services/{name}", MatchConfig(path_prefix=prefix), name, prefix)


def _exposed(config: Config, catalog: Catalog, hidden: frozenset[str]) -> list[str]:
    names = [name for name in config.expose_services if name != "*"]
    if "*" in config.expose_services:
        names += [*config.services, *(name for name in catalog if name not in hidden)]
    return sorted(set(names))
