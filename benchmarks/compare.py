"""Siger beside its peers, under several workloads, in alternating rounds: part of ``make bench``.

Two cores: the proxy has the first, the backend and the load share the last. What they are loaded
with is in workloads.py, who they are in contenders/, how a workload runs in rounds.py, and latency
at a constant rate in constant_rate.py. Writes ``http.json``, from which report.py makes tables and
charts.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.certificate import write_certificate
from benchmarks.constant_rate import SHARES, run_steady
from benchmarks.contenders.lineup import contenders
from benchmarks.load import NoWrk, find_wrk
from benchmarks.processes import Children, ProcessError, free_ports
from benchmarks.results import Results, Row, Table
from benchmarks.rounds import Rounds, run_workload
from benchmarks.servers import Setup, nginx_binary, start_file_backend
from benchmarks.workloads import WORKLOADS

SPARE_FILES = 1.5
"""Open files for each connection that a proxy may need: its own, and some to services, which answer
at once and so are few. A relay needs two."""


def _void(row: Row) -> str:
    why = row.note.splitlines() or [f"{row.errors} errors"]
    return f"{row.contender:16}void: {why[0]}"


def show(table: Table) -> None:
    """The table as text, the cheapest first."""
    print(f"\n{table.title}")
    print(f"{'':16}{'CPU µs':>9}{'x nginx':>9}{'req/s':>9}{'p50 ms':>8}{'p99 ms':>8}{'MiB':>7}")
    for row in sorted(table.rows, key=lambda one: one.median("cpu_us") or 1e9):
        cpu = row.median("cpu_us")
        if cpu is None:
            print(_void(row))
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
            print(_void(row))
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
    results = Results("http")
    peers = [
        each
        for each in contenders()
        if options.contenders is None or each.name in options.contenders
    ]
    rounds = Rounds(options.rounds, options.seconds, wrk, cores[-1])
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-") as directory,
        Children(Path(directory)) as children,
    ):
        first, second = free_ports(2)
        backend = start_file_backend(children, nginx, (first, second), cores[-1])
        backend.wait_for_port(first)
        certificate = Path(directory) / "certificate.pem"
        write_certificate(certificate)
        setup = Setup(children, nginx, (first, second), None, cores[0], certificate)
        for workload in WORKLOADS:
            if options.only is not None and workload.name not in options.only:
                continue
            if workload.connections * SPARE_FILES > files:
                print(f"{workload.name}: left out, no more than {files} open files are allowed")
                continue
            table = run_workload(workload, peers, setup, rounds)
            results.tables.append(table)
            show(table)
        saturated = {
            row.contender: row.median("rate_per_s")
            for table in results.tables
            if table.name == "small"
            for row in table.rows
        }.get("siger")
        if saturated and (options.only is None or "steady" in options.only):
            for share in SHARES:
                table = run_steady(share, saturated, peers, setup, rounds)
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
