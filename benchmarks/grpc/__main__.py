"""What a unary gRPC call costs a proxy, beside Envoy, nginx (``grpc_pass``) and HAProxy.

Two cores: the proxy has the first, the backend and the load share the last. All run from beginning
to end and take turns. The load and the backend are prepared bytes (see ``load``): Python all the
same, so the proxies are hardly ever saturated; CPU per call is what counts. Writes ``grpc.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.grpc import proxies
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Results, Row, Table
from benchmarks.servers import ROOT, Setup, builds, nginx_binary

CONNECTIONS, STREAMS = 4, 32
"""Of the load; as many calls at a time as their product."""


def contenders() -> dict[str, Callable[[Setup, int], Child]]:
    """Name -> what starts it."""
    ours = {
        name: partial(proxies.start_siger, name=name, code=code) for name, code in builds().items()
    }
    return {
        **ours,
        "envoy": proxies.start_envoy,
        "nginx": proxies.start_nginx,
        "haproxy": proxies.start_haproxy,
    }


def measure(child: Child, port: int, children: Children, seconds: int, core: int) -> Row:
    """One round."""
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.grpc.load"]
    argv += [str(port), str(seconds), str(CONNECTIONS), str(STREAMS)]
    cpu = child.cpu_seconds()
    began = perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    load = children.start("load", argv, core=core, environment=environment)
    try:
        load.popen.wait(seconds * 5 + 30)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"load: still running after {perf_counter() - began:.0f} s") from None
    cpu = child.cpu_seconds() - cpu
    lines = [one for one in load.output.read_text().splitlines() if one.startswith("RESULT ")]
    if not lines:
        raise ProcessError(f"load: no result\n{load.output_end()}\n{child.output_end()}")
    found = json.loads(lines[0].removeprefix("RESULT "))
    figures = {
        "cpu_us": cpu / max(found["calls"], 1) * 1e6,
        "rate_per_s": found["calls"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "busy": cpu / found["seconds"],
        "memory_mib": child.resident_bytes() / (1 << 20),
    }
    return Row(child.name, [figures], found["errors"] + (found["calls"] == 0))


def run(options: argparse.Namespace) -> Results:
    """All rounds of all contenders."""
    cores = sorted(os.sched_getaffinity(0))
    title = f"Unary gRPC calls, {CONNECTIONS * STREAMS} at a time, each with ids of its own"
    table = Table("grpc", title)
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-grpc-") as directory,
        Children(Path(directory)) as children,
    ):
        first, second = free_ports(2)
        setup = Setup(children, nginx_binary(), (first, second), None, cores[0])
        proxies.start_backend(setup, cores[-1]).wait_for_port(second)
        chosen = [
            (name, start)
            for name, start in contenders().items()
            if options.contenders is None or name in options.contenders
        ]
        running = []
        for (name, start), port in zip(chosen, free_ports(len(chosen)), strict=True):
            child = start(setup, port)
            child.wait_for_port(port)
            measure(child, port, children, 1, cores[-1])  # to warm up
            running.append((child, port, Row(name)))
            table.rows.append(running[-1][2])
        for number in range(options.rounds):
            for child, port, row in running if number % 2 == 0 else running[::-1]:
                found = measure(child, port, children, options.seconds, cores[-1])
                row.rounds += found.rounds
                row.errors += found.errors
    return Results("grpc", f"{platform.platform()}, {len(cores)} cores", [table])


def show(table: Table) -> None:
    """The table as text, the cheapest first."""
    print(f"{table.title}\n{'':16}{'CPU µs':>9}{'x envoy':>9}{'calls/s':>9}{'p50':>8}{'p99 ms':>8}")
    for row in sorted(table.rows, key=lambda one: one.median("cpu_us") or 1e9):
        if row.errors:
            print(f"{row.contender:16}void: {row.errors} errors")
            continue
        ratio = table.ratio("cpu_us", row.contender, "envoy") or 0
        print(
            f"{row.contender:16}{row.median('cpu_us') or 0:9.1f}{ratio:9.2f}"
            f"{row.median('rate_per_s') or 0:9,.0f}{row.median('p50_ms') or 0:8.2f}"
            f"{row.median('p99_ms') or 0:8.2f}{row.median('busy') or 0:7.0%}"
        )


def main() -> int:
    """Exit status: 0; 1 if a row is void or a process failed; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpc",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3, help="of a round")
    parser.add_argument("--contenders", type=lambda text: text.split(","), help="some of them")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="for grpc.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1
    (table,) = results.tables
    show(table)
    print(results.write(options.out))
    return 1 if any(row.errors for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
