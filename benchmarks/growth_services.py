"""What services in Consul cost when nothing happens, how soon a change of them is seen, and what
it takes to start a gateway with many routes or services.

The Consul agent and nats-server are real ones, on this machine.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.growth_proxies import SIGER, Shape, run_siger, siger_config, start_backend
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Figures
from tests.consul_server import ConsulServer
from tests.nats_server import NatsServer

CHANGES = 3
"""Changes that are waited for, at each size."""
IDLE = 4.0
"""Seconds in which nothing happens and CPU time is looked at."""
QUIET = 0.05
"""Share of a core below which a gateway that has started counts as idle, for half a second."""
BOUND = 60.0
"""Seconds after which a change will not be seen any more."""
POLL = 0.002
"""Seconds between two looks."""


def watch(services: int, cores: tuple[int, int]) -> Figures:
    """A gateway beside a Consul with so many services, each with a route and an instance."""
    port, *backends = free_ports(2 + CHANGES)
    with (
        ConsulServer() as consul,
        tempfile.TemporaryDirectory(prefix="siger-growth-") as directory,
        Children(Path(directory)) as children,
    ):
        start_backend(children, backends, cores[1]).wait_for_port(backends[-1])
        names = [f"s{number}" for number in range(services - 1)]
        for name in names:
            consul.register(name, name, port=backends[0])
        consul.register("changing", "changing-0", port=backends[0])
        config = siger_config(port, consul_address=consul.address, **_served((*names, "changing")))
        child, ready = start(children, "siger", config, port, cores[0])
        _until_served_by(port, backends[0])
        _until_quiet(child)
        cpu = child.cpu_seconds()
        time.sleep(IDLE)
        idle = (child.cpu_seconds() - cpu) / IDLE
        seen = []
        for number in range(1, CHANGES + 1):
            time.sleep(1.5)  # queries have a pace: a change that comes alone is what is meant
            began = time.monotonic()
            consul.register("changing", f"changing-{number}", port=backends[number])
            _until_served_by(port, backends[number])
            seen.append(time.monotonic() - began)
            consul.deregister(f"changing-{number - 1}")
        return {
            "idle_share": idle,
            "change_ms": median(seen) * 1000,
            "ready_s": ready,
            "memory_mib": resident(child),
        }


def start_with_routes(routes: int, core: int) -> Figures:
    """A gateway with so many prefix routes, and nothing else."""
    with _folder() as children:
        (port,) = free_ports(1)
        began = time.monotonic()
        child = SIGER.start(children, "siger", Shape("prefix", routes, [9]), port, core)
        return _started(child, port, began)


def start_default(core: int) -> Figures:
    """A gateway with the default keys and one service, beside a Consul and a NATS."""
    with _folder() as children, ConsulServer() as consul, NatsServer() as nats:
        (port,) = free_ports(1)
        more = {"consul_address": consul.address, "nats_address": nats.address}
        config = siger_config(port, **_served(("users",))) | more
        return _started(*_launched(children, config, port, core))


def start(
    children: Children, name: str, config: Mapping[str, Any], port: int, core: int
) -> tuple[Child, float]:
    """A gateway that is ready, and the seconds that it took."""
    began = time.monotonic()
    child = run_siger(children, name, dict(config), core)
    _until_ready(child, port)
    return child, time.monotonic() - began


def resident(child: Child) -> float:
    """MiB of memory that the process has now."""
    for line in Path(f"/proc/{child.popen.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessError(f"{child.name}: ended\n{child.output_end()}")


@contextmanager
def _folder() -> Iterator[Children]:
    with (
        tempfile.TemporaryDirectory(prefix="siger-growth-") as directory,
        Children(Path(directory)) as children,
    ):
        yield children


def _launched(
    children: Children, config: dict[str, Any], port: int, core: int
) -> tuple[Child, int, float]:
    began = time.monotonic()
    return run_siger(children, "siger", config, core), port, began


def _started(child: Child, port: int, began: float) -> Figures:
    _until_ready(child, port)
    ready = time.monotonic() - began
    time.sleep(1)  # what starts in the background has connected
    return {"ready_s": ready, "memory_mib": resident(child)}


def _served(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "services": {name: {"consul": name} for name in names},
        "routes": [
            {"name": name, "match": {"path_prefix": f"/{name}"}, "service": name} for name in names
        ],
    }


def _until_ready(child: Child, port: int) -> None:
    child.wait_for_port(port, BOUND)
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        if _ask(port, "/health/ready").status == 200:
            return
        time.sleep(POLL)
    raise ProcessError(f"{child.name}: not ready after {BOUND:g} s\n{child.output_end()}")


def _until_served_by(port: int, backend: int) -> None:
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        if _ask(port, "/changing").headers.get("X-Port") == str(backend):
            return
        time.sleep(POLL)
    raise ProcessError(f"a change in Consul was not seen after {BOUND:g} s")


def _until_quiet(child: Child) -> None:
    deadline = time.monotonic() + BOUND
    while time.monotonic() < deadline:
        before = child.cpu_seconds()
        time.sleep(0.5)
        if child.cpu_seconds() - before <= QUIET * 0.5:
            return
    raise ProcessError(f"{child.name}: still busy after {BOUND:g} s")


def _ask(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response
