"""The effective routes of a configuration: the gateway's own, the file's, the exposed services',
and those that services in Consul carry in their tags.

One list, made by one pure function, is what the gateway compiles and what ``routes`` prints, so
the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from siger_gateway.config.schema import Config, MatchConfig, RouteConfig, ServiceConfig
from siger_gateway.routing.tags import Catalog, tag_routes

OWN: Final = (
    RouteConfig("health", MatchConfig(path="/health")),
    RouteConfig("health", MatchConfig(path="/health/live")),
    RouteConfig("health", MatchConfig(path="/health/ready")),
    RouteConfig("metrics", MatchConfig(path="/metrics")),
    RouteConfig("openapi", MatchConfig(path="/openapi.json")),
    RouteConfig("jobs", MatchConfig(path_prefix="/api/v1/jobs")),
)
"""What the gateway answers itself; neither the configuration nor a tag can take these paths."""

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
    """All that there is to compile.

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
    routes = [EffectiveRoute(route, "gateway") for route in OWN]
    routes += [EffectiveRoute(route, "file") for route in config.routes]
    routes += [EffectiveRoute(_exposing(name), "exposed") for name in exposed]
    routes += [EffectiveRoute(route, "consul") for route in tagged.routes]
    return Effective(tuple(routes), services, tagged.problems)


def _exposing(name: str) -> RouteConfig:
    prefix = f"/services/{name}"
    return RouteConfig(f"services/{name}", MatchConfig(path_prefix=prefix), name, prefix)


def _exposed(config: Config, catalog: Catalog, hidden: frozenset[str]) -> list[str]:
    names = [name for name in config.expose_services if name != "*"]
    if "*" in config.expose_services:
        names += [*config.services, *(name for name in catalog if name not in hidden)]
    return sorted(set(names))
