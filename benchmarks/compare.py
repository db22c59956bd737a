"""Siger beside its peers, under several workloads, in alternating rounds: part of ``make bench``.

Two cores: the proxy has the first, the backend and the load share the last. All contenders run from
beginning to end, and take turns under the load, so that what else the machine does falls on all.
Writes ``http.json``, from which benchmarks/report.py makes tables and charts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, sleep, time

from benchmarks.contenders import proxies
from benchmarks.load import NoWrk, Wrk, find_wrk, run_load
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Results, Row, Table
from benchmarks.servers import (
    ROOT,
    Setup,
    builds,
    nginx_binary,
    siger,
    start_any_nginx,
    start_file_backend,
    tokens,
)

STEADY = (0.5, 0.8)
"""Shares of Siger's own saturation at which latencies are compared."""
STEADY_CONNECTIONS = 128

READY = 5.0
"""Seconds that a contender has to answer for the first time, once it listens."""

SPARE_FILES = 2.5
"""Open files for each connection that a proxy may need: its own, one to a service, and others."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What the load asks for. ``{n}`` in the path becomes one of 64 numbers."""

    name: str
    title: str
    path: str = "/api/v1/users/{n}?page=1&sort=name"
    method: str = "GET"
    body: int = 0
    """Bytes of each request's body."""
    answer: int = 0
    """Bytes of each response's body, where throughput is of interest."""
    close: bool = False
    """Every request comes on a connection of its own."""
    connections: int = 64
    policies: bool = False

    def environment(self, wrk: Wrk) -> Wrk:
        more = {
            "SIGER_BENCH_METHOD": self.method,
            "SIGER_BENCH_PATH": self.path,
            "SIGER_BENCH_BODY": str(self.body),
            "SIGER_BENCH_CLOSE": "1" if self.close else "0",
            "SIGER_BENCH_TOKENS": " ".join(tokens(time())),
        }
        return replace(wrk, environment={**wrk.environment, **more})


WORKLOADS = (
    Workload("small", "Small GET: 11 header fields, an answer of 200 bytes"),
    Workload("policies", "The same with a token, a rate limit and an access log", policies=True),
    Workload("16k", "Answers of 16 KiB", path="/files/16k?n={n}", answer=16 << 10),
    Workload("1m", "Answers of 1 MiB", path="/files/1m?n={n}", answer=1 << 20),
    Workload("post", "POST of 64 KiB", method="POST", body=64 << 10),
    Workload("close", "A connection for each request", close=True),
    Workload("1000", "1,000 connections", connections=1000),
    Workload("10000", "10,000 connections", connections=10_000),
)


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy: how it starts plain, and with its equivalent of the policies, if it has one."""

    name: str
    plain: Callable[[Setup, int], Child] | None
    guarded: Callable[[Setup, int], Child] | None = None
    note: str = ""
    """What it had in place of Siger's policies."""


def _python(module: str) -> Callable[[Setup, int], Child]:
    def start(setup: Setup, port: int) -> Child:
        argv: list[str | Path] = [sys.executable, "-m", f"benchmarks.contenders.{module}"]
        argv += [str(port), *(f"127.0.0.1:{one}" for one in setup.endpoints)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return setup.children.start(module, argv, core=setup.core, environment=environment)

    return start


POLICY: dict[str, object] = {
    "auth": "required",
    "rate_limit": {"requests": 10**9, "per": "1s", "key": "user"},
}


def _siger(name: str, code: Path) -> Contender:
    note = "JWT verified, limit by user, access log, trace context"
    return Contender(
        name,
        lambda setup, port: siger(name, {}, None, setup, port, prefix="/", code=code),
        lambda setup, port: siger(
            f"{name}-guarded",
            POLICY,
            setup.children.directory / f"{name}.log",
            setup,
            port,
            prefix="/",
            code=code,
        ),
        note,
    )


def contenders() -> list[Contender]:
    """Those that there are on this machine."""
    return [
        *(_siger(name, code) for name, code in builds().items()),
        Contender(
            "nginx",
            lambda setup, port: start_any_nginx(setup, port, guarded=False),
            lambda setup, port: start_any_nginx(setup, port, guarded=True),
            "auth_request to a location that answers 204, limit_req, access_log",
        ),
        Contender("haproxy", proxies.start_haproxy),
        Contender("envoy", proxies.start_envoy),
        Contender("traefik", proxies.start_traefik),
        Contender("caddy", proxies.start_caddy),
        Contender("aiohttp", _python("aiohttp_proxy")),
        Contender("tornado", _python("tornado_curl")),
        Contender("relay", _python("relay")),
    ]


@dataclass(slots=True)
class Running:
    """A contender that has been started, and its row."""

    child: Child
    port: int
    row: Row


def probe(running: Running, workload: Workload) -> None:
    """One request must bring the backend's own answer: fast errors are no throughput. Some listen
    before they have their routes."""
    running.child.wait_for_port(running.port)
    deadline = perf_counter() + READY
    while True:
        try:
            return _ask(running, workload)
        except (ProcessError, OSError, http.client.HTTPException):
            if perf_counter() > deadline:
                raise
            sleep(0.05)


def _ask(running: Running, workload: Workload) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    headers = {"Host": "api.example.com", "Authorization": f"Bearer {tokens(time())[0]}"}
    body = b"x" * workload.body if workload.body else None
    try:
        connection.request(workload.method, workload.path.replace("{n}", "1"), body, headers)
        response = connection.getresponse()
        length = len(response.read())
    finally:
        connection.close()
    if response.status != 200 or length < 100 or (workload.answer and length != workload.answer):
        raise ProcessError(f"answered {response.status} with {length} bytes")


def measure(
    running: Running, workload: Workload, children: Children, wrk: Wrk, seconds: int, core: int
) -> None:
    """One round: loads the contender and accounts its CPU time to the requests it completed."""
    cpu_before, began = running.child.cpu_seconds(), perf_counter()
    load = run_load(
        children,
        wrk,
        port=running.port,
        connections=workload.connections,
        seconds=seconds,
        core=core,
        script="workload.lua",
    )
    cpu, elapsed = running.child.cpu_seconds() - cpu_before, perf_counter() - began
    if running.child.popen.poll() is not None:
        raise ProcessError(f"ended\n{running.child.output_end()}")
    figures = {
        "cpu_us": cpu / max(load.requests, 1) * 1e6,
        "rate_per_s": load.requests / load.seconds,
        "p50_ms": load.p50_us / 1000,
        "p99_ms": load.p99_us / 1000,
        "busy": cpu / elapsed,
        "memory_mib": running.child.resident_bytes() / (1 << 20),
    }
    if workload.answer or workload.body:
        size = workload.answer or workload.body
        figures["mib_per_cpu_s"] = load.requests * size / (1 << 20) / max(cpu, 0.01)
    running.row.rounds.append(figures)
    running.row.errors += load.errors + (load.requests == 0)


def run_workload(
    workload: Workload, options: argparse.Namespace, setup: Setup, wrk: Wrk, load_core: int
) -> Table:
    """All rounds of all contenders; one that fails has a row that says why."""
    table = Table(workload.name, workload.title)
    running = []
    chosen = [
        (each, start)
        for each in contenders()
        if options.contenders is None or each.name in options.contenders
        if (start := each.guarded if workload.policies else each.plain) is not None
    ]
    with Children(setup.children.directory) as children:
        mine = replace(setup, children=children)
        wrk = workload.environment(wrk)
        for (each, start), port in zip(chosen, free_ports(len(chosen)), strict=True):
            row = Row(each.name, note=each.note if workload.policies else "")
            table.rows.append(row)
            try:
                one = Running(start(mine, port), port, row)
                probe(one, workload)
                measure(one, workload, children, wrk, 1, load_core)  # to warm up
                row.rounds.clear()
                running.append(one)
            except (ProcessError, OSError, http.client.HTTPException) as error:
                _void(row, error)
        for number in range(options.rounds):
            for one in running if number % 2 == 0 else running[::-1]:
                try:
                    measure(one, workload, children, wrk, options.seconds, load_core)
                except (ProcessError, OSError) as error:
                    _void(one.row, error)
            running = [one for one in running if not one.row.errors]
    return table


def run_steady(
    share: float, rate: float, options: argparse.Namespace, setup: Setup, load_core: int
) -> Table:
    """Every contender alone, under the same constant rate.

    :param rate: requests per second at which Siger is saturated, of which ``share`` come.
    """
    title = f"At a constant {share:.0%} of what Siger can do: {rate * share:,.0f} requests/s"
    table = Table(f"steady-{share * 100:.0f}", title)
    for each in contenders():
        if each.plain is None or (options.contenders and each.name not in options.contenders):
            continue
        row = Row(each.name)
        table.rows.append(row)
        with Children(setup.children.directory) as children:
            (port,) = free_ports(1)
            try:
                one = Running(each.plain(replace(setup, children=children), port), port, row)
                probe(one, WORKLOADS[0])
                for _ in range(options.rounds):
                    _steady_round(one, rate * share, options.seconds, children, load_core)
            except (ProcessError, OSError, http.client.HTTPException) as error:
                _void(row, error)
    return table


def _steady_round(
    running: Running, rate: float, seconds: int, children: Children, core: int
) -> None:
    words = [str(running.port), str(rate), str(seconds), str(STEADY_CONNECTIONS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, began = running.child.cpu_seconds(), perf_counter()
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.steady", *words]
    load = children.start("steady", argv, core=core, environment=environment)
    try:
        load.popen.wait(seconds + 15)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"steady: still running\n{load.output_end()}") from None
    lines = [one for one in load.output.read_text().splitlines() if one.startswith("RESULT ")]
    if not lines:
        raise ProcessError(f"steady: no result\n{load.output_end()}")
    found = json.loads(lines[0].removeprefix("RESULT "))
    running.row.errors += found.pop("errors")
    found["busy"] = (running.child.cpu_seconds() - before) / (perf_counter() - began)
    running.row.rounds.append(found)


def _void(row: Row, error: Exception) -> None:
    row.errors += 1
    row.note = str(error) or repr(error)
    print(f"{row.contender}: {row.note}", file=sys.stderr)


def show(table: Table) -> None:
    """The table as text, the cheapest first."""
    print(f"\n{table.title}")
    print(f"{'':16}{'CPU µs':>9}{'x nginx':>9}{'req/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'MiB':>7}")
    for row in sorted(table.rows, key=lambda one: one.median("cpu_us") or 1e9):
        cpu = row.median("cpu_us")
        if cpu is None:
            print(f"{row.contender:16}void: {row.errors} errors. {row.note.splitlines()[:1]}")
            continue
        ratio = table.ratio("cpu_us", row.contender, "nginx")
        print(
            f"{row.contender:16}{cpu:9.1f}{ratio or 0:9.2f}{row.median('rate_per_s') or 0:9,.0f}"
            f"{row.median('p50_ms') or 0:8.2f}{row.median('p99_ms') or 0:8.2f}"
            f"{row.median('memory_mib') or 0:7.0f}"
        )


def show_steady(table: Table) -> None:
    """The table as text, the quickest first."""
    print(f"\n{table.title}\n{'':16}{'p50 ms':>9}{'p99 ms':>9}{'p99.9 ms':>9}{'busy':>7}")
    for row in sorted(table.rows, key=lambda one: one.median("p99_ms") or 1e9):
        if row.errors:
            print(f"{row.contender:16}void: {row.errors} errors. {row.note.splitlines()[:1]}")
            continue
        times = [row.median(name) or 0 for name in ("p50_ms", "p99_ms", "p999_ms")]
        print(
            f"{row.contender:16}{times[0]:9.2f}{times[1]:9.2f}{times[2]:9.2f}"
            f"{row.median('busy') or 0:7.0%}"
        )


def run(options: argparse.Namespace) -> Results:
    """Every workload that is asked for."""
    wrk = find_wrk()
    nginx = nginx_binary()
    cores = sorted(os.sched_getaffinity(0))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    results = Results("http", f"{platform.platform()}, {len(cores)} cores")
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-") as directory,
        Children(Path(directory)) as children,
    ):
        first, second = free_ports(2)
        backend = start_file_backend(children, nginx, (first, second), cores[-1])
        backend.wait_for_port(first)
        setup = Setup(children, nginx, (first, second), None, cores[0])
        for workload in WORKLOADS:
            if workload.connections * SPARE_FILES > files:
                print(f"{workload.name}: left out, no more than {files} open files are allowed")
            elif options.only is None or workload.name in options.only:
                table = run_workload(workload, options, setup, wrk, cores[-1])
                results.tables.append(table)
                show(table)
        saturated = {
            row.contender: row.median("rate_per_s")
            for table in results.tables
            if table.name == "small"
            for row in table.rows
        }.get("siger")
        if saturated and (options.only is None or "steady" in options.only):
            for share in STEADY:
                table = run_steady(share, saturated, options, setup, cores[-1])
                results.tables.append(table)
                show_steady(table)
    return results


def _names(text: str) -> list[str]:
    return text.split(",")


def main() -> int:
    """Exit status: 0, 1 if a row of Siger's is void or nothing was measured, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    names = ",".join(one.name for one in WORKLOADS)
    parser.add_argument("--only", type=_names, metavar="NAMES", help=f"some of {names},steady")
    parser.add_argument("--contenders", type=_names, metavar="NAMES", help="such as siger,nginx")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="for http.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (NoWrk, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\nwritten: {results.write(options.out)}")
    ours = [row for table in results.tables for row in table.rows if "siger" in row.contender]
    return 1 if any(row.errors for row in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
