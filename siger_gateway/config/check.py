"""Checks that need more than one value: names that must exist, pairs that exclude each other.

They run over a ``Config`` that may hold stand-ins for values already reported, so each check first
asks the report whether the keys that it looks at are good. One mistake, one problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from siger_gateway.config.actions import ACTIONS, action_problems
from siger_gateway.config.check_policies import check_policies
from siger_gateway.config.check_tls import check_service_tls, check_tls
from siger_gateway.config.problem import Mark, Report, join
from siger_gateway.config.schema import (
    Config,
    HealthCheckConfig,
    MatchConfig,
    OutlierConfig,
    RouteConfig,
    ServiceConfig,
    TranscodeConfig,
)

OWN_PATHS: Final = ("/health", "/health/live", "/health/ready", "/metrics", "/openapi.json")
"""Exact paths of the gateway's own endpoints: requests for them never reach a route."""

OWN_PREFIXES: Final = ("/api/v1/jobs",)
"""Own endpoints that take everything below them too."""

OWN_SERVICES: Final = (
    "/grpc.health.v1.Health",
    "/grpc.reflection.v1.ServerReflection",
    "/grpc.reflection.v1alpha.ServerReflection",
    "/siger.jobs.v1.Jobs",
)
"""Own services of gRPC. Their methods are exact paths, so no template can take them by chance."""

EXPOSED_PREFIX: Final = "/services"
"""Where ``expose_services`` has its routes, if there are any."""

ACTION_KEYS: Final = (*ACTIONS, "strip_prefix", "rewrite", "headers")
"""Keys of a route that ``action_problems`` looks at, beside its match."""


class Checks:
    """All checks over one configuration; ``run`` raises nothing and adds to the report.

    :param where: key path -> its place in the file.
    """

    def __init__(self, config: Config, report: Report, where: Callable[[str], Mark]) -> None:
        self._config = config
        self._report = report
        self._where = where

    def run(self) -> None:
        for name, service in self._config.services.items():
            self._service(service, join("services", name))
            check_service_tls(service, join("services", name), self._report, self._where)
        for index, route in enumerate(self._config.routes):
            self._targets(route, f"routes[{index}]")
            self._match(route, f"routes[{index}]")
            self._action(route, f"routes[{index}]")
            self._retry(route, f"routes[{index}]")
        self._unique_names()
        self._unique_matches()
        self._exposed()
        check_tls(self._config.tls, self._report, self._where)
        check_policies(self._config, self._report, self._where)

    def _add(self, key: str, reason: str, *, word: str = "", among: tuple[str, ...] = ()) -> None:
        self._report.add(self._where(key), key, reason, word=word, among=among)

    def _no_consul(self) -> bool:
        return not self._config.consul_address and self._report.is_good("consul_address")

    def _service(self, service: ServiceConfig, key: str) -> None:
        self._unique_endpoints(service, key)
        self._hash_key(service, key)
        self._health_check(service, f"{key}.health_check")
        self._outlier(service.outlier, f"{key}.outlier")
        self._transcode(service, f"{key}.transcode")
        if self._report.is_good(f"{key}.consul", f"{key}.endpoints"):
            if not service.consul and not service.endpoints:
                self._add(key, 'needs "consul" or "endpoints"')
            elif service.consul and service.endpoints:
                self._add(key, '"consul" and "endpoints" exclude each other')
            elif service.consul and self._no_consul():
                self._add(f"{key}.consul", "there is no Consul: consul_address is empty")

    def _health_check(self, service: ServiceConfig, key: str) -> None:
        check = service.health_check
        if not self._report.is_good_below(key):
            return
        if check.type == "grpc":
            if service.protocol not in ("h2c", "h2") and not service.consul:
                self._add(key, '"type: grpc" needs "protocol: h2c" or "h2"')
            if check.path:
                self._add(key, '"type: grpc" takes no "path": "service" says who is asked')
            if len(check.service.encode()) > 127:
                self._add(f"{key}.service", "no service has a name of more than 127 bytes")
            return
        if check.service:
            self._add(key, '"service" is for "type: grpc"')
        if check.type == "tcp" and (check.path or check.host):
            self._add(key, '"type: tcp" takes neither "path" nor "host"')
        elif not check.enabled and check != HealthCheckConfig():
            self._add(key, 'needs "path", or "type: tcp"; without, nothing is checked')

    def _outlier(self, outlier: OutlierConfig, key: str) -> None:
        if not self._report.is_good_below(key):
            return
        if not outlier.enabled and outlier != OutlierConfig():
            self._add(key, 'needs "errors" or "stdev_factor"; without, nothing is ejected')
        elif outlier.max_eject_for < outlier.eject_for:
            self._add(key, '"max_eject_for" is shorter than "eject_for"')

    def _transcode(self, service: ServiceConfig, key: str) -> None:
        """What the file of descriptors holds is looked at by ``grpc.descriptor_files``."""
        if service.transcode == TranscodeConfig() or not self._report.is_good_below(key):
            return
        if not service.transcode.descriptors:
            self._add(key, 'needs "descriptors"; without, nothing is transcoded')
        elif service.protocol not in ("h2c", "h2") and not service.consul:
            self._add(key, 'needs "protocol: h2c" or "h2": it calls the service in gRPC')
        elif not service.transcode.by_reflection and (
            service.transcode.refresh != TranscodeConfig().refresh
        ):
            self._add(f"{key}.refresh", 'is for "descriptors: reflection"; files come by a reload')

    def _unique_endpoints(self, service: ServiceConfig, key: str) -> None:
        first: dict[str, int] = {}
        for index, endpoint in enumerate(service.endpoints):
            path = f"{key}.endpoints[{index}]"
            if not self._report.is_good(path, f"{path}.address"):
                continue
            address = endpoint.address.lower()  # host names are case-insensitive
            if address in first:
                line = self._where(f"{key}.endpoints[{first[address]}]").line
                self._add(path, f"the same address as in line {line}, {address}")
            first.setdefault(address, index)

    def _hash_key(self, service: ServiceConfig, key: str) -> None:
        if not self._report.is_good(f"{key}.balance", f"{key}.hash_on"):
            return
        hashing = service.balance == "consistent_hash"
        if hashing and not service.hash_on:
            self._add(
                f"{key}.balance",
                'consistent_hash needs "hash_on": client_ip, path, header:NAME or cookie:NAME',
            )
        elif service.hash_on and not hashing:
            self._add(
                f"{key}.hash_on", f"only for balance: consistent_hash, which is {service.balance}"
            )

    def _targets(self, route: RouteConfig, key: str) -> None:
        if route.service:
            self._target(route.service, f"{key}.service")
        for index, one in enumerate(route.split):
            self._target(one.service, f"{key}.split[{index}].service")

    def _target(self, name: str, key: str) -> None:
        services = self._config.services
        if name not in services and self._report.is_good(key, "services"):
            reason = f'there is no service "{name}"'
            self._add(key, reason, word=name, among=tuple(services))

    def _action(self, route: RouteConfig, key: str) -> None:
        if not self._report.is_good(f"{key}.match.path", f"{key}.match.path_prefix"):
            return
        # A bad part of an action is no reason to say that there is none.
        if all(self._report.is_good_below(f"{key}.{part}") for part in ACTION_KEYS):
            for part, reason in action_problems(route):
                self._add(join(key, part) if part else key, reason)

    def _match(self, route: RouteConfig, key: str) -> None:
        at, match = f"{key}.match", route.match
        if not self._report.is_good(f"{at}.path", f"{at}.path_prefix"):
            return
        if bool(match.path) == bool(match.path_prefix):
            has = "both" if match.path else "neither"
            self._add(at, f'needs exactly one of "path" and "path_prefix", has {has}')
            return
        path = match.path or match.path_prefix
        where = f"{at}.path" if match.path else f"{at}.path_prefix"
        if (own := own_endpoint(path, services=bool(self._config.expose_services))) is not None:
            self._add(where, f"{own} is an endpoint of the gateway itself")
        reason = strip_problem(path, route.strip_prefix)
        if reason and self._report.is_good(f"{key}.strip_prefix"):
            self._add(f"{key}.strip_prefix", reason)

    def _retry(self, route: RouteConfig, key: str) -> None:
        at = f"{key}.retry.per_try_timeout"
        if not self._report.is_good(at, f"{key}.timeout"):
            return
        if route.retry.per_try_timeout >= route.timeout:
            self._add(at, f"has to be shorter than the route's timeout, {route.timeout:g}s")

    def _unique_names(self) -> None:
        first: dict[str, int] = {}
        for index, route in enumerate(self._config.routes):
            key = f"routes[{index}].name"
            if not self._report.is_good(key):
                continue
            if route.name in first:
                line = self._where(f"routes[{first[route.name]}].name").line
                self._add(key, f'the route in line {line} has the name "{route.name}" already')
            first.setdefault(route.name, index)

    def _unique_matches(self) -> None:
        first: dict[object, int] = {}
        for index, route in enumerate(self._config.routes):
            key = f"routes[{index}].match"
            # A bad part anywhere in it, say one header, could be what tells the two apart.
            if not self._report.is_good_below(key):
                continue
            same = identity(route.match)
            if same in first:
                other = self._config.routes[first[same]].name
                line = self._where(f"routes[{first[same]}].match").line
                self._add(
                    key,
                    f'route "{route.name}" matches the same requests as route "{other}" in line '
                    f"{line}; one of them would never be used",
                )
            first.setdefault(same, index)

    def _exposed(self) -> None:
        if not self._no_consul() or not self._report.is_good("services"):
            return
        services = self._config.services
        for index, name in enumerate(self._config.expose_services):
            key = f"expose_services[{index}]"
            if name != "*" and name not in services and self._report.is_good(key):
                self._add(
                    key,
                    f'there is no service "{name}", and no Consul: consul_address is empty',
                    word=name,
                    among=tuple(services),
                )


def own_endpoint(path: str, *, services: bool) -> str | None:
    """The endpoint of the gateway itself that requests for ``path`` belong to, or could.

    :param path: of a match; exact, a template or a prefix.
    :param services: there are exposed services, so ``/services`` is one too.
    """
    if path in OWN_PATHS:
        return path
    prefixes = (*OWN_PREFIXES, *OWN_SERVICES, *((EXPOSED_PREFIX,) if services else ()))
    below = (prefix for prefix in prefixes if _is_below(path, prefix))
    # A template comes before a prefix: /api/{x}/jobs would take every request for the jobs.
    reached = (prefix for prefix in OWN_PREFIXES if _may_be_below(path, prefix))
    return next(below, None) or next(reached, None)


def strip_problem(path: str, strip: str) -> str:
    """Why ``strip`` cannot be taken from the start of ``path``; "" when it can."""
    if strip == "/":
        return '"/" strips nothing; remove the key'
    if strip and not _is_below(path, strip):
        return f"{strip} is not how {path} begins, in whole segments"
    return ""


def _is_below(path: str, prefix: str) -> bool:
    """Whether ``path`` is ``prefix`` or continues it with a further segment."""
    return path == prefix or path.startswith(f"{prefix}/")


def _may_be_below(template: str, prefix: str) -> bool:
    """``_is_below`` for some value of the template's ``{names}``."""
    if "{" not in template:
        return False
    parts, segments = template.split("/"), prefix.split("/")
    return len(parts) >= len(segments) and all(
        part == segment or part[:1] == "{" for part, segment in zip(parts, segments, strict=False)
    )


def identity(match: MatchConfig) -> object:
    """Equal for two matches that take exactly the same requests. Names in a template do not
    matter, and neither does the order of methods and headers."""
    return (
        re.sub(r"\{[^}]*\}", "{}", match.path),
        match.path_prefix,
        frozenset(match.methods),
        match.host,
        frozenset(match.headers.items()),
    )
