"""The effective routes of a configuration: the gateway's own, the file's, the exposed services'.

One list, made by one pure function, is what the gateway compiles and what ``routes`` prints, so
the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from siger_gateway.config.schema import Config, MatchConfig, RetryConfig, ServiceConfig

OWN: Final = (
    ("health", MatchConfig(path="/health")),
    ("health", MatchConfig(path="/health/live")),
    ("health", MatchConfig(path="/health/ready")),
    ("metrics", MatchConfig(path="/metrics")),
    ("openapi", MatchConfig(path="/openapi.json")),
    ("jobs", MatchConfig(path_prefix="/api/v1/jobs")),
)
"""What the gateway answers itself; the configuration cannot take these paths."""

EXPOSED_TIMEOUT: Final = 30.0
"""Seconds to the response head for exposed services: the default of a route."""

NEVER_EXPOSED: Final = frozenset({"consul"})
"""Services that ``*`` leaves out: Consul's own agent registers itself."""


@dataclass(frozen=True, slots=True)
class EffectiveRoute:
    """One route. ``service`` is "" for the gateway's own endpoints; ``timeout`` in seconds."""

    name: str
    match: MatchConfig
    service: str = ""
    strip_prefix: str = ""
    timeout: float = 0.0
    retry: RetryConfig = field(default_factory=RetryConfig)


def effective_services(config: Config, discovered: Iterable[str] = ()) -> dict[str, ServiceConfig]:
    """Every service by name: those of the file, and those exposed by their name in Consul.

    :param discovered: all service names in Consul, for ``expose_services: ["*"]``.
    """
    services = dict(config.services)
    for name in _exposed(config, discovered):
        services.setdefault(name, ServiceConfig(consul=name))
    return services


def effective_routes(config: Config, discovered: Iterable[str] = ()) -> list[EffectiveRoute]:
    """Every route, the gateway's own first."""
    routes = [EffectiveRoute(name, match) for name, match in OWN]
    routes += [
        EffectiveRoute(
            route.name,
            route.match,
            route.service,
            route.strip_prefix,
            route.timeout,
            route.retry,
        )
        for route in config.routes
    ]
    for name in _exposed(config, discovered):
        prefix = f"/services/{name}"
        routes.append(
            EffectiveRoute(
                f"services/{name}", MatchConfig(path_prefix=prefix), name, prefix, EXPOSED_TIMEOUT
            )
        )
    return routes


def _exposed(config: Config, discovered: Iterable[str]) -> list[str]:
    names = [name for name in config.expose_services if name != "*"]
    if "*" in config.expose_services:
        hidden = NEVER_EXPOSED | {config.register.name}
        names += [*config.services, *(name for name in discovered if name not in hidden)]
    return sorted(set(names))
