"""What a unary gRPC call costs a proxy, beside Envoy, nginx (``grpc_pass``) and HAProxy.

Two cores: the proxy has the first, the backend and the load share the last. All run from beginning
to end and take turns. The load and the backend are prepared bytes (see ``load``): Python all the
same, so the proxies are hardly ever saturated; CPU per call is what counts. Writes ``grpc.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.grpc import beside, proxies
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Results, Row, Table
from benchmarks.servers import ROOT, Setup, builds, nginx_binary, start_backend

CONNECTIONS, STREAMS = 4, 32
"""Of the load; as many calls at a time as their product."""
LOADS = {
    "grpc": ("benchmarks.grpc.load", "each with ids of its own"),
    "grpc-grpcio": ("benchmarks.grpc.grpcio_load", "from a client with grpcio"),
}
"""Table -> what makes the load, and how the title says it."""

Start = Callable[[Setup, int, tuple[int, int]], Child]


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that has been started."""

    name: str
    child: Child
    port: int


def contenders() -> dict[str, Start]:
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


def measure(one: Running, load: str, children: Children, seconds: int, core: int) -> Row:
    """One round.

    :param load: the module that makes it.
    """
    child = one.child
    argv: list[str | Path] = [sys.executable, "-m", load]
    argv += [str(one.port), str(seconds), str(CONNECTIONS), str(STREAMS)]
    cpu = child.cpu_seconds()
    began = perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    caller = children.start("load", argv, core=core, environment=environment)
    try:
        caller.popen.wait(seconds * 5 + 30)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"load: still running after {perf_counter() - began:.0f} s") from None
    cpu = child.cpu_seconds() - cpu
    lines = [one for one in caller.output.read_text().splitlines() if one.startswith("RESULT ")]
    if not lines:
        raise ProcessError(f"load: no result\n{caller.output_end()}\n{child.output_end()}")
    found = json.loads(lines[0].removeprefix("RESULT "))
    figures = {
        "cpu_us": cpu / max(found["calls"], 1) * 1e6,
        "rate_per_s": found["calls"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "busy": cpu / found["seconds"],
        "memory_mib": child.resident_bytes() / (1 << 20),
    }
    return Row(one.name, [figures], found["errors"] + (found["calls"] == 0))


def run(options: argparse.Namespace) -> Results:
    """All rounds of all contenders."""
    cores = sorted(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-grpc-") as directory,
        Children(Path(directory)) as children,
    ):
        first, second, *rest = free_ports(4)
        nginx = nginx_binary()
        setup = Setup(children, nginx, (first, second), None, cores[0])
        users = (rest[0], rest[1])
        proxies.start_backend(setup, cores[-1]).wait_for_port(second)
        start_backend(children, nginx, users, cores[-1]).wait_for_port(users[1])
        chosen = [
            (name, start)
            for name, start in contenders().items()
            if options.contenders is None or name in options.contenders
        ]
        running = []
        for (name, start), port in zip(chosen, free_ports(len(chosen)), strict=True):
            one = Running(name, start(setup, port, users), port)
            one.child.wait_for_port(port)
            running.append(one)
        turns = [running if number % 2 == 0 else running[::-1] for number in range(options.rounds)]
        tables = [
            _calls(name, running, turns, children, options.seconds, cores[-1]) for name in LOADS
        ]
        tables.append(_beside(tables[0], running, turns, children, options.seconds, cores[-1]))
    return Results("grpc", tables=tables)


Turns = list[list[Running]]


def _calls(
    name: str, running: list[Running], turns: Turns, children: Children, seconds: int, core: int
) -> Table:
    """What calls cost, of one kind of load."""
    module, words = LOADS[name]
    table = Table(name, f"Unary gRPC calls, {CONNECTIONS * STREAMS} at a time, {words}")
    rows = {one.name: Row(one.name) for one in running}
    table.rows += rows.values()
    for one in running:
        measure(one, module, children, 1, core)  # to warm up
    for turn in turns:
        for one in turn:
            found = measure(one, module, children, seconds, core)
            rows[one.name].rounds += found.rounds
            rows[one.name].errors += found.errors
    return table


def _beside(
    calls: Table, running: list[Running], turns: Turns, children: Children, seconds: int, core: int
) -> Table:
    """What REST waits while there are half as many gRPC calls as in ``calls``."""
    rate = f"{beside.REST_RATE:,.0f} GETs per second, alone and beside half of the gRPC calls"
    table = Table("grpc-beside", f"{rate} that the proxy can do")
    rows = {one.name: beside.rows(one.name) for one in running}
    table.rows += [row for pair in rows.values() for row in pair]
    saturated = {row.contender: row.median("rate_per_s") or 0.0 for row in calls.rows}
    for turn in turns:
        for one in turn:
            half = saturated[one.name] / 2
            beside.measure(*rows[one.name], one.child, one.port, half, children, seconds, core)
    return table


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


def show_beside(table: Table, names: list[str]) -> None:
    """The table as text."""
    print(f"{table.title}\n{'':16}{'p99 alone':>12}{'beside ms':>12}{'ratio':>8}")
    for name in names:
        alone, loaded = (one for one in table.rows if one.contender.startswith(f"{name},"))
        if alone.errors or loaded.errors:
            print(f"{name:16}void: {alone.errors + loaded.errors} errors")
            continue
        figures = alone.median("p99_ms") or 0, loaded.median("p99_ms") or 0
        print(f"{name:16}{figures[0]:12.2f}{figures[1]:12.2f}{beside.ratio(table, name) or 0:8.2f}")


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
    *calls, rest = results.tables
    for table in calls:
        show(table)
    show_beside(rest, [row.contender for row in calls[0].rows])
    print(results.write(options.out))
    return 1 if any(row.errors for table in results.tables for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
