"""Envoy, Traefik and Caddy with so many routes and so many endpoints, as in growth_proxies.py.

All three try their routes one after the other.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.contenders.contender import BIN
from benchmarks.contenders.envoy import CLUSTER, bootstrap, connection_manager, run_envoy
from benchmarks.contenders.go import one_thread
from benchmarks.contenders.traefik import run_traefik
from benchmarks.growth_proxies import Kind, Proxy, Shape
from benchmarks.processes import Child, Children
from benchmarks.servers import KEPT_CONNECTIONS

_ALL: frozenset[Kind] = frozenset({"exact", "prefix", "template"})


def _patterns(shape: Shape) -> list[str]:
    """Paths, or the regular expressions that templates are to them."""
    paths = [shape.pattern(number) for number in range(shape.routes)]
    if shape.kind == "template":
        return ["^" + one.replace("{id}", "[^/]+") + "$" for one in paths]
    return paths


def _envoy(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    def match(pattern: str) -> dict[str, Any]:
        if shape.kind == "template":
            return {"safe_regex": {"regex": pattern}}
        return {"path" if shape.kind == "exact" else "path_separated_prefix": pattern}

    manager = connection_manager(
        [{"match": match(one), "route": {"cluster": CLUSTER}} for one in _patterns(shape)]
    )
    chain = {"filters": [manager]}
    config = bootstrap(port, chain, shape.endpoints, ENVOY.policies[shape.policy])
    return run_envoy(children, name, config, core)


def _traefik(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    rule = {"exact": "Path", "prefix": "PathPrefix", "template": "PathRegexp"}[shape.kind]
    routers = {
        f"r{number}": {"rule": f"{rule}(`{pattern}`)", "service": "users"}
        for number, pattern in enumerate(_patterns(shape))
    }
    servers = [{"url": f"http://127.0.0.1:{one}"} for one in shape.endpoints]
    services = {"users": {"loadBalancer": {"servers": servers}}}
    routes = {"http": {"routers": routers, "services": services}}
    return run_traefik(children, name, port, routes, core)


def _caddy(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    """A Caddyfile would give each route its own connections; here they say that one was found, and
    what comes after them sends the request."""

    def match(pattern: str) -> dict[str, Any]:
        if shape.kind == "template":
            return {"path_regexp": {"pattern": pattern}}
        return {"path": [pattern] if shape.kind == "exact" else [pattern, f"{pattern}/*"]}

    new_id = {"X-Request-ID": ["{http.request.uuid}"]}
    same_id = {"X-Request-ID": ["{http.request.header.X-Request-ID}"]}
    send = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": f"127.0.0.1:{one}"} for one in shape.endpoints],
        "load_balancing": {"selection_policy": {"policy": CADDY.policies[shape.policy]}},
        "transport": {
            "protocol": "http",
            "keep_alive": {"max_idle_conns_per_host": KEPT_CONNECTIONS},
        },
    }
    routes: list[dict[str, Any]] = [
        {
            "match": [{"not": [{"header": {"X-Request-ID": ["*"]}}]}],
            "handle": [{"handler": "headers", "request": {"set": new_id}}],
        },
        {"handle": [{"handler": "headers", "response": {"set": same_id}}]},
        *(
            {
                "match": [match(pattern)],
                "handle": [{"handler": "vars", "found": "yes"}],
                "group": "routes",  # the first that matches is the only one
            }
            for pattern in _patterns(shape)
        ),
        {"match": [{"vars": {"found": ["yes"]}}], "handle": [send]},
    ]
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "routes": routes,
    }
    config = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "apps": {"http": {"servers": {"entry": server}}},
    }
    file = children.directory / f"{name}.json"
    file.write_text(json.dumps(config))
    home = {**one_thread(), "HOME": str(children.directory)}
    return children.start(
        name, [BIN / "caddy", "run", "--config", file], core=core, environment=home
    )


ENVOY = Proxy(
    "Envoy",
    _envoy,
    # The less loaded of two.
    {"round_robin": "ROUND_ROBIN", "least_connections": "LEAST_REQUEST"},
    _ALL,
)
TRAEFIK = Proxy("Traefik", _traefik, {"round_robin": "wrr"}, _ALL)
CADDY = Proxy(
    "Caddy",
    _caddy,
    {"round_robin": "round_robin", "least_connections": "least_conn"},
    _ALL,
)
PEERS = (ENVOY, TRAEFIK, CADDY)
