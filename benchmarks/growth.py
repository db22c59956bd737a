"""What things cost as there are more of them: ``python -m benchmarks.growth``.

routes      CPU per request with 10 to 10,000 routes, requests spread over all of them
endpoints   CPU per request with 2 to 1,000 endpoints, by balancing policy
services    Consul with 1 to 1,000 services: idle CPU, time from a change to the table
start       from the start of the process to ready, and memory when idle, bare and grown

Siger beside nginx, HAProxy, Envoy, Traefik and Caddy where they have the same thing. Writes
``growth.json``.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.growth_load import Load, add_line, grow, ratio
from benchmarks.growth_peers import PEERS
from benchmarks.growth_proxies import PROXIES, SIGER, Kind, Proxy, Shape
from benchmarks.growth_services import start_default, start_with_routes, watch
from benchmarks.load import NoWrk, find_wrk
from benchmarks.processes import ProcessError, free_ports
from benchmarks.results import Curve, Figures, Results, Row, Table
from benchmarks.servers import ROOT

PARTS = ("start", "services", "routes", "endpoints")
ROUTES = (10, 100, 1_000, 10_000)
ENDPOINTS = (2, 10, 100, 1_000)
SERVICES = (1, 10, 100, 1_000)
KINDS: tuple[Kind, ...] = ("exact", "prefix", "template")
POLICIES = ("round_robin", "least_connections")
LINEAR_ROUTES = 1_000
"""Where routes are tried one after the other, a request takes milliseconds with 10,000, and nobody
waits for that."""
EVERYBODY = (*PROXIES, *PEERS)


def routes(options: argparse.Namespace, load: Load, results: Results) -> None:
    """CPU per request over the number of routes, a curve for each kind of route."""
    ports = free_ports(2)
    ratios = Table("growth-routes", "CPU per request: the most routes to the fewest")
    for kind in KINDS:
        curve = Curve(f"routes-{kind}", f"Routes: {kind}", "routes", "CPU per request, µs")
        results.curves.append(curve)
        for proxy in EVERYBODY:
            sizes = [n for n in ROUTES if kind not in proxy.linear or n <= LINEAR_ROUTES]
            sizes = _measured(sizes, options, proxy)
            shapes = [(n, Shape(kind, n, ports)) for n in sizes]
            rows = grow(proxy, f"{proxy.name}, {kind}", shapes, load)
            add_line(curve, proxy.name, sizes, rows)
            ratios.rows += rows
            _tell(
                f"{sizes[-1]:,} routes ({kind}), {proxy.name}", curve.lines[proxy.name], ratio(rows)
            )
    results.tables.append(ratios)


def _measured(sizes: list[int], options: argparse.Namespace, proxy: Proxy) -> list[int]:
    """Those of the sizes that are measured: of the others' curves, fewer points are enough."""
    if options.largest:
        return [sizes[0], sizes[-1]]
    return sizes if proxy is SIGER or len(sizes) < 4 else [sizes[0], *sizes[2:]]


def endpoints(options: argparse.Namespace, load: Load, results: Results) -> None:
    """CPU per request over the number of endpoints, a curve for each policy."""
    ports = free_ports(ENDPOINTS[-1])
    ratios = Table("growth-endpoints", "CPU per request: the most endpoints to the fewest")
    for policy in POLICIES:
        title = f"Endpoints: {policy}"
        curve = Curve(f"endpoints-{policy}", title, "endpoints", "CPU per request, µs")
        results.curves.append(curve)
        for proxy in EVERYBODY:
            if policy not in proxy.policies:
                continue
            sizes = _measured(list(ENDPOINTS), options, proxy)
            shapes = [(n, Shape("prefix", 10, ports[:n], policy)) for n in sizes]
            rows = grow(proxy, f"{proxy.name}, {policy}", shapes, load)
            add_line(curve, proxy.name, sizes, rows)
            ratios.rows += rows
            label = f"{sizes[-1]:,} endpoints ({policy}), {proxy.name}"
            _tell(label, curve.lines[proxy.name], ratio(rows))
    results.tables.append(ratios)


def services(options: argparse.Namespace, load: Load, results: Results) -> None:
    """Curves over the number of services in Consul."""
    sizes = [SERVICES[0], SERVICES[-1]] if options.largest else list(SERVICES)
    cores = load.proxy_core, load.load_core
    rows = []
    for count in sizes:
        row = Row(f"Siger, {count:,} services", [watch(count, cores)])
        rows.append(row)
        figures = row.rounds[0]
        print(
            f"{count:>6,} services in Consul: idle {figures['idle_share']:.1%} of a core, a change "
            f"is seen after {figures['change_ms']:.0f} ms, ready after {figures['ready_s']:.2f} s, "
            f"{figures['memory_mib']:.1f} MiB",
            flush=True,
        )
    results.tables.append(Table("growth-services", "Services in Consul", rows))
    for figure, title, unit in (
        ("idle_share", "Idle CPU", "share of a core"),
        ("change_ms", "From a change in Consul to the table", "ms"),
        ("ready_s", "From start to ready", "s"),
        ("memory_mib", "Memory when idle", "MiB"),
    ):
        points = zip(sizes, (row.median(figure) for row in rows), strict=True)
        line = [(float(x), y) for x, y in points if y is not None]
        curve = Curve(f"services-{figure}", title, "services in Consul", unit, {"Siger": line})
        results.curves.append(curve)


def start(options: argparse.Namespace, load: Load, results: Results) -> None:
    """From start to ready, and memory when idle."""
    table = Table("growth-start", "Start and idle memory")
    sizes = [ROUTES[0], ROUTES[-1]] if options.largest else list(ROUTES)
    cases: list[tuple[str, Callable[[], Figures]]] = [
        (f"{count:,} routes", partial(start_with_routes, count, load.proxy_core)) for count in sizes
    ]
    cases.append(("with Consul and NATS", partial(start_default, load.proxy_core)))
    cases[0][1]()  # the first start compiles the modules
    for label, measure in cases:
        row = Row(f"Siger, {label}", [measure() for _ in range(options.rounds)])
        table.rows.append(row)
        ready, memory = row.median("ready_s"), row.median("memory_mib")
        print(f"start, {label}: ready after {ready:.2f} s, {memory:.1f} MiB", flush=True)
    results.tables.append(table)
    for figure, title, unit in (
        ("ready_s", "From start to ready", "s"),
        ("memory_mib", "Memory when idle", "MiB"),
    ):
        points = zip(sizes, (row.median(figure) for row in table.rows), strict=False)
        line = [(float(x), y) for x, y in points if y is not None]
        results.curves.append(Curve(f"start-{figure}", title, "routes", unit, {"Siger": line}))


def _tell(label: str, line: list[tuple[float, float]], grown: float | None) -> None:
    shown = "void" if grown is None else f"x {grown:.2f}"
    print(f"{label:48}{shown:>8}   {'  '.join(f'{y:.1f}' for _, y in line)} µs", flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=_positive, default=2, help="%(default)s")
    parser.add_argument("--seconds", type=_positive, default=1, help="of a round; %(default)s")
    parser.add_argument("--largest", action="store_true", help="only the smallest and the largest")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="%(default)s")
    return parser.parse_args()


def main() -> int:
    """Exit status: 0, 1 if a row is void or a process failed, 130 after Ctrl-C."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    results = Results("growth")
    parts = options.only or PARTS
    available = sorted(os.sched_getaffinity(0))
    try:
        load = Load(find_wrk(), options.seconds, options.rounds, available[0], available[-1])
        for measure in (start, services, routes, endpoints):
            if measure.__name__ in parts:
                measure(options, load, results)
                results.write(options.out)  # also if the next one fails
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (NoWrk, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(results.write(options.out))
    return 1 if any(row.errors for table in results.tables for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
