"""The routes that services carry in their Consul tags: pure functions from tags to routes.

    siger.path_prefix=/api/v1/users  siger.strip_prefix=/api/v1  siger.timeout=5s

A tag is text that any service's owner may write, so nothing in it is believed further than it can
do harm. A route leads to the service that carries it and to no other. A tag that restricts or
protects (a host, methods, ``auth``), or that this version does not know and that might, is either
obeyed or takes all routes of its service away: nothing becomes more open through a mistake. What
the file and the gateway itself have taken stays theirs.

The instances of a service may differ, as they do in every rollout: Consul tells the tags of all of
them together. Paths, hosts and methods of all count; of two timeouts the shorter does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Final, Literal, get_args, get_type_hints

from siger_gateway.config.check import identity, own_endpoint, strip_problem
from siger_gateway.config.check_policies import NO_MEANS
from siger_gateway.config.names import TAG_PREFIX
from siger_gateway.config.policies import AuthConfig, PolicyConfig
from siger_gateway.config.problem import shown
from siger_gateway.config.schema import Config, MatchConfig, RouteConfig, ServiceConfig
from siger_gateway.config.values import BadValue, Rule, Value, read_scalar

Catalog = Mapping[str, tuple[str, ...]]
"""Name of each service in Consul -> its ``siger.`` tags."""

KEYS: Final[dict[str, tuple[Any, str]]] = {
    "path": (MatchConfig, "path"),
    "path_prefix": (MatchConfig, "path_prefix"),
    "host": (MatchConfig, "host"),
    "methods": (MatchConfig, "methods"),
    "strip_prefix": (RouteConfig, "strip_prefix"),
    "timeout": (RouteConfig, "timeout"),
    "auth": (PolicyConfig, "auth"),
    "roles": (PolicyConfig, "roles"),
    "scopes": (PolicyConfig, "scopes"),
    "balance": (ServiceConfig, "balance"),
    "protocol": (ServiceConfig, "protocol"),
}
"""Key of a tag -> the field of the configuration that says what its value may be."""

PATHS: Final = frozenset({"path", "path_prefix"})
SINGLE: Final = ("timeout", "balance", "protocol")
"""Keys of which a service has one value; of several the smallest counts, everywhere the same."""

NO_AUTH: Final = AuthConfig()

HARMLESS: Final = frozenset({"timeout", "balance"})
"""Keys whose bad values cost no more than the default in their place."""

Auth = Literal["", "none", "optional", "required"]
STRICTNESS: Final[tuple[Auth, ...]] = ("", "none", "optional", "required")
"""What ``auth`` may be, the most open first."""

LISTS: Final = ("methods", "roles", "scopes")
"""Keys whose values are lists, with commas."""

MAX_ROUTES: Final = 64
"""Routes of one service: far more than one has, few enough that nobody fills the table."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the tags of one service ask for. ``problems``: why there is less of it than it seems."""

    routes: tuple[RouteConfig, ...] = ()
    service: ServiceConfig = field(default_factory=ServiceConfig)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TagRoutes:
    """What the tags of all services come to. ``problems``: service and reason."""

    routes: tuple[RouteConfig, ...] = ()
    services: dict[str, ServiceConfig] = field(default_factory=dict)
    problems: tuple[tuple[str, str], ...] = ()


def tag_routes(config: Config, catalog: Catalog, hidden: frozenset[str]) -> TagRoutes:
    """The routes that the tags in ``catalog`` add to those of ``config``.

    :param hidden: names of services that never get a route.
    """
    if not config.consul_routes:
        return TagRoutes()
    taken = {identity(route.match): f'the file\'s route "{route.name}"' for route in config.routes}
    routes: list[RouteConfig] = []
    services: dict[str, ServiceConfig] = {}
    problems: list[tuple[str, str]] = []
    for name, tags in sorted(catalog.items()):
        if not tags:
            continue
        if name in hidden:
            problems.append((name, "this service never gets a route"))
            continue
        wanted = routes_from_tags(name, tags, config.auth)
        problems += [(name, reason) for reason in wanted.problems]
        key = _cluster_name(config, name)
        for route in wanted.routes:
            match = route.match
            path = match.path or match.path_prefix
            if (own := own_endpoint(path, services=bool(config.expose_services))) is not None:
                problems.append((name, f"{path}: {own} is an endpoint of the gateway itself"))
            elif (owner := taken.get(identity(match))) is not None:
                problems.append((name, f"{path}: {owner} matches the same requests"))
            else:
                taken[identity(match)] = f'service "{name}"'
                routes.append(replace(route, service=key))
                services.setdefault(key, config.services.get(key, wanted.service))
    return TagRoutes(tuple(routes), services, tuple(problems))


def routes_from_tags(name: str, tags: Iterable[str], means: AuthConfig = NO_AUTH) -> Wanted:
    """The routes that the tags of the service ``name`` ask for, before anything else is looked at.

    :param tags: those that begin with ``siger.``; others are ignored.
    :param means: by which clients can show who they are.
    """
    values, problems, refused = _parse(tags)
    auth = _auth(values, means)
    if auth not in ("", "none") and not means.enabled:
        problems.append(f"{TAG_PREFIX}auth={auth}: {NO_MEANS}")
        refused = True
    if len(set(map(frozenset, values["roles"]))) > 1:  # one of them or the other: which is meant?
        problems.append(f"{TAG_PREFIX}roles: instances differ")
        refused = True
    paths = [MatchConfig(path=path) for path in values["path"]]
    paths += [MatchConfig(path_prefix=path) for path in values["path_prefix"]]
    if not paths and not problems:
        problems.append(f"there is no {TAG_PREFIX}path and no {TAG_PREFIX}path_prefix")
    chosen = {key: min(values[key]) for key in SINGLE if values[key]}
    problems += [
        f"{TAG_PREFIX}{key}: instances differ; {value} is used"
        for key, value in chosen.items()
        if len(set(values[key])) > 1
    ]
    hosts = values["host"] or [""]
    if len(paths) * len(hosts) > MAX_ROUTES:
        problems.append(f"more than {MAX_ROUTES} routes")
        refused = True
    if refused:
        return Wanted(problems=(*problems, "none of its routes is used"))
    methods = tuple(sorted({one for several in values["methods"] for one in several}))
    timeout = {"timeout": chosen.pop("timeout")} if "timeout" in chosen else {}
    roles, scopes = (
        tuple(sorted({one for several in values[key] for one in several}))
        for key in ("roles", "scopes")
    )
    routes = []
    for path in paths:
        where = path.path or path.path_prefix
        strip, problem = _strip(where, values["strip_prefix"])
        if where.startswith("/{"):  # it would reach into every path of its length
            problem = "the first segment of a path in a tag has to be literal"
        if problem:
            problems.append(f"{where}: {problem}")
            continue
        for host in hosts:
            match = replace(path, methods=methods, host=host)
            route = RouteConfig(f"consul/{name}", match, name, strip, **timeout)
            routes.append(replace(route, auth=auth, roles=roles, scopes=scopes))
    return Wanted(tuple(routes), ServiceConfig(consul=name, **chosen), tuple(problems))


def _parse(tags: Iterable[str]) -> tuple[dict[str, list[Any]], list[str], bool]:
    """Values by key, problems, and whether one of these costs the service all of its routes."""
    values: dict[str, list[Any]] = {key: [] for key in KEYS}
    problems: list[str] = []
    refused = False
    for tag in sorted({tag for tag in tags if tag.startswith(TAG_PREFIX)}):
        key, _, text = tag.removeprefix(TAG_PREFIX).partition("=")
        try:
            if key not in KEYS:
                known = ", ".join(TAG_PREFIX + one for one in sorted(KEYS))
                raise BadValue(f"unknown; there are {known}")
            values[key].append(_read(key, text))
        except BadValue as error:
            problems.append(f"{shown(tag)}: {error.reason}")
            # The other paths are not to blame; anything else may have been meant to protect.
            refused = refused or key not in HARMLESS | PATHS
    return values, problems, refused


def _strip(path: str, strips: Iterable[str]) -> tuple[str, str]:
    """The longest of ``strips`` that ``path`` begins with, or why none of them can be used."""
    longest_first = sorted(strips, key=len, reverse=True)
    problems = [strip_problem(path, strip) for strip in longest_first]
    if "" in problems:
        return longest_first[problems.index("")], ""
    return "", problems[0] if problems else ""


def _auth(values: Mapping[str, list[Any]], means: AuthConfig) -> Auth:
    """The strictest of what instances and the file want; a tag cannot open what the file closes.
    Roles and scopes only make sense with credentials."""
    wanted: list[Auth] = [means.default, *values["auth"]]
    if values["roles"] or values["scopes"]:
        wanted.append("required")
    strictest = max(wanted, key=STRICTNESS.index)
    return "" if strictest == "none" and not values["auth"] else strictest


def _read(key: str, text: str) -> Any:
    """The value of one tag, by the rules of the configuration's field; of lists a tuple."""
    if not text:
        raise BadValue("the value is missing")
    hint, rule = _field(key)
    if key not in LISTS:
        return read_scalar(Value(text, "string", plain=True, source=text), hint, rule)
    texts = [one.strip() for one in text.split(",")]
    return tuple(
        read_scalar(Value(one, "string", plain=True, source=one), hint, rule) for one in texts
    )


@cache
def _field(key: str) -> tuple[Any, Rule]:
    """The type of one value, and what the schema says about it beside its type."""
    owner, name = KEYS[key]
    hint = get_type_hints(owner, include_extras=True)[name]
    rule = Rule.of(next(one for one in fields(owner) if one.name == name))
    return get_args(hint)[0] if key in LISTS else hint, rule


def _cluster_name(config: Config, consul: str) -> str:
    """The service of the file that stands for ``consul``, so that its settings hold; or a name
    that is not that of another one."""
    same = (key for key, service in config.services.items() if service.consul == consul)
    return next(same, f"consul/{consul}" if consul in config.services else consul)
