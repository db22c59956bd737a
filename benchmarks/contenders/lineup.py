"""All contenders that there are on this machine."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from benchmarks.contenders.caddy import CADDY
from benchmarks.contenders.contender import Contender, Duty
from benchmarks.contenders.envoy import ENVOY
from benchmarks.contenders.haproxy import HAPROXY
from benchmarks.contenders.nginx import NGINX
from benchmarks.contenders.siger import sigers
from benchmarks.contenders.traefik import TRAEFIK
from benchmarks.processes import Child
from benchmarks.servers import ROOT, Setup


def contenders() -> list[Contender]:
    """Siger first, as it is and compiled; the floor last."""
    return [
        *sigers(),
        NGINX,
        HAPROXY,
        ENVOY,
        TRAEFIK,
        CADDY,
        _python("aiohttp", "aiohttp_proxy", Duty.PLAIN, Duty.TLS),
        _python("tornado", "tornado_curl", Duty.PLAIN, Duty.TLS),
        _python("relay", "relay", Duty.PLAIN, Duty.WEBSOCKET),
    ]


def _python(name: str, module: str, *duties: Duty) -> Contender:
    return Contender(name, partial(_start_python, module), frozenset(duties))


def _start_python(module: str, setup: Setup, port: int, duty: Duty) -> Child:
    argv: list[str | Path] = [sys.executable, "-m", f"benchmarks.contenders.{module}"]
    if duty is Duty.TLS:
        argv.append(f"--certificate={setup.certificate}")
    argv += [str(port), *(f"127.0.0.1:{one}" for one in setup.endpoints)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return setup.children.start(module, argv, core=setup.core, environment=environment)
