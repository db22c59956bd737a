"""CPU per request of one proxy as its routes or its endpoints grow.

All sizes run at the same time and are loaded in turn, round after round, forwards and backwards:
what else the machine does falls on all of them, and each round compares the sizes with each other.
"""

from __future__ import annotations

import http.client
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.growth_proxies import Proxy, Shape, start_backend
from benchmarks.load import Wrk, run_load
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Curve, Row, Table, turns
from benchmarks.servers import BODY

CONNECTIONS = 64
WARM_UP = 1
"""Seconds of load on each before the first round."""
START = 60.0
"""Seconds that a proxy may take to start."""


@dataclass(frozen=True, slots=True)
class Load:
    """How the proxies are loaded: for so many seconds, in so many rounds, on these cores."""

    wrk: Wrk
    seconds: int
    rounds: int
    proxy_core: int
    load_core: int


@dataclass(frozen=True, slots=True)
class _Running:
    x: int
    child: Child
    port: int
    wrk: Wrk
    row: Row


def grow(proxy: Proxy, label: str, shapes: Sequence[tuple[int, Shape]], load: Load) -> list[Row]:
    """A row for each of the shapes, from small to large.

    :param shapes: each with the size that it stands for.
    """
    with (
        tempfile.TemporaryDirectory(prefix="siger-growth-") as directory,
        Children(Path(directory)) as children,
    ):
        endpoints = sorted({port for _, shape in shapes for port in shape.endpoints})
        start_backend(children, endpoints, load.load_core).wait_for_port(endpoints[-1])
        ports = free_ports(len(shapes))  # not before: the backend listens on a thousand
        running = []
        for (x, shape), port in zip(shapes, ports, strict=True):
            name = f"{proxy.name}-{x}"
            child = proxy.start(children, name, shape, port, load.proxy_core)
            paths = Path(directory) / f"{name}.paths"
            paths.write_text("\n".join(shape.paths()) + "\n")
            wrk = Wrk(load.wrk.binary, {**load.wrk.environment, "SIGER_BENCH_PATHS": str(paths)})
            running.append(_Running(x, child, port, wrk, Row(f"{label} at {x:,}")))
            child.wait_for_port(port, START)
            _probe(port, shape)
        for each in running:
            _measure(children, each, load, WARM_UP)
        for number in range(load.rounds):
            for each in turns(running, number):
                figures, errors = _measure(children, each, load, load.seconds)
                each.row.rounds.append(figures)
                each.row.errors += errors
    return [each.row for each in running]


def _probe(port: int, shape: Shape) -> None:
    """Some listen before they have their routes, so they may be asked again."""
    deadline = perf_counter() + START
    for path in (shape.paths()[0], shape.paths()[-1]):
        while (answer := _ask(port, path)) != (200, BODY):
            if perf_counter() > deadline:
                raise ProcessError(f"{path} is answered with {answer}")
            sleep(0.05)


def _ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": "api.example.com"})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _measure(
    children: Children, each: _Running, load: Load, seconds: int
) -> tuple[dict[str, float], int]:
    before = each.child.cpu_seconds()
    result = run_load(
        children,
        each.wrk,
        port=each.port,
        connections=CONNECTIONS,
        seconds=seconds,
        core=load.load_core,
        script="requests_of.lua",
    )
    cpu = each.child.cpu_seconds() - before
    if each.child.popen.poll() is not None:
        raise ProcessError(f"{each.child.name}: ended\n{each.child.output_end()}")
    figures = {
        "cpu_us": cpu / max(result.requests, 1) * 1e6,
        "rate_per_s": result.requests / result.seconds,
        "p99_ms": result.p99_us / 1000,
    }
    return figures, result.errors + (result.requests == 0)


def ratio(rows: Sequence[Row]) -> float | None:
    """Of the largest to the smallest, median of the rounds."""
    table = Table("growth", "", list(rows))
    return table.ratio("cpu_us", rows[-1].contender, rows[0].contender)


def add_line(curve: Curve, label: str, sizes: Sequence[int], rows: Sequence[Row]) -> None:
    """The medians of the rows that are not void."""
    medians = zip(sizes, (row.median("cpu_us") for row in rows), strict=True)
    curve.lines[label] = [(float(x), y) for x, y in medians if y is not None]
