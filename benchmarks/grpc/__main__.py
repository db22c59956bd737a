"""What gRPC costs a proxy, beside Envoy, nginx (``grpc_pass``) and HAProxy.

    grpc          unary calls, prepared bytes (unary.py)
    grpc-grpcio   unary calls by grpcio (grpcio.py)
    grpc-chat     messages on streams that stay (chat.py)
    grpc-beside   small GETs over HTTP/1.1, alone and beside unary calls (beside.py)

Two cores: the proxy has the first, the backend and the load share the last. They are Python, so the
proxies are hardly ever saturated; CPU per call is what counts. Writes ``grpc.json``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.grpc.beside import run_beside
from benchmarks.grpc.load import prepare
from benchmarks.grpc.proxies import contenders
from benchmarks.grpc.rounds import CONNECTIONS, KINDS, Rounds, run_kind
from benchmarks.processes import Children, ProcessError, free_ports
from benchmarks.results import Results, Table
from benchmarks.servers import Setup, nginx_binary, start_backend

PREPARED = 40_000
"""Calls of a second for which header blocks are prepared; a round ends when they are used up."""
BESIDE = "grpc-beside"


def run(options: argparse.Namespace) -> Results:
    """All that is asked for; prints each table as it comes."""
    cores = sorted(os.sched_getaffinity(0))
    results = Results("grpc")
    rounds = Rounds(options.rounds, options.seconds, cores[-1])
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-grpc-") as directory,
        Children(Path(directory)) as children,
    ):
        prepare(Path(directory), CONNECTIONS, PREPARED * (options.seconds + 1))
        first, second, *rest = free_ports(4)
        setup = Setup(children, nginx_binary(), (first, second), None, cores[0])
        ports = (rest[0], rest[1])
        start_backend(children, setup.nginx, ports, cores[-1]).wait_for_port(ports[1])
        chosen = {
            name: start
            for name, start in contenders(ports).items()
            if options.contenders is None or name in options.contenders
        }
        for kind in KINDS:
            if options.only is None or kind.name in options.only:
                results.tables.append(run_kind(kind, chosen, setup, rounds))
                show(results.tables[-1])
        if options.only is None or BESIDE in options.only:
            results.tables.append(run_beside(chosen, setup, ports, rounds))
            show_beside(results.tables[-1])
    return results


def show(table: Table) -> None:
    """The table as text, the cheapest first."""
    head = f"{'CPU µs':>9}{'x envoy':>9}{'per s':>9}{'p50 ms':>9}{'p99 ms':>9}{'busy':>7}"
    print(f"\n{table.title}\n{'':16}{head}")
    for row in sorted(table.rows, key=lambda one: one.median("cpu_us") or 1e9):
        if row.errors:
            print(f"{row.contender:16}void: {row.note.splitlines()[0]}")
            continue
        ratio = table.ratio("cpu_us", row.contender, table.peer) or 0
        print(
            f"{row.contender:16}{row.median('cpu_us') or 0:9.1f}{ratio:9.2f}"
            f"{row.median('rate_per_s') or 0:9,.0f}{row.median('p50_ms') or 0:9.2f}"
            f"{row.median('p99_ms') or 0:9.2f}{row.median('busy') or 0:7.0%}"
        )


def show_beside(table: Table) -> None:
    """The table as text, the one that minds the least first."""
    head = f"{'p50 alone':>10}{'beside':>8}"
    head += "".join(f"{name:>13}{'beside':>8}{'ratio':>7}" for name in ("p99 alone", "typical p99"))
    head += f"{'busy':>6}"
    print(f"\n{table.title}\n{'':16}{head}")
    for row in sorted(table.rows, key=lambda one: one.median("typical_p99_growth") or 1e9):
        if row.errors:
            print(f"{row.contender:16}void: {row.note.splitlines()[0]}")
            continue
        print(
            f"{row.contender:16}{row.median('p50_ms') or 0:10.2f}"
            f"{row.median('beside_p50_ms') or 0:8.2f}{row.median('p99_ms') or 0:13.2f}"
            f"{row.median('beside_p99_ms') or 0:8.2f}{row.median('p99_growth') or 0:7.2f}"
            f"{row.median('typical_p99_ms') or 0:13.2f}"
            f"{row.median('beside_typical_p99_ms') or 0:8.2f}"
            f"{row.median('typical_p99_growth') or 0:7.2f}{row.median('busy') or 0:6.0%}"
            f"  {row.note}"
        )


def main() -> int:
    """Exit status: 0; 1 if a row is void or a process failed; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpc",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [*(kind.name for kind in KINDS), BESIDE]
    parser.add_argument("--only", type=_names, metavar="NAMES", help=f"some of {','.join(names)}")
    parser.add_argument("--contenders", type=_names, metavar="NAMES", help="such as siger,envoy")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each contender")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round")
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
    print(f"\nwritten: {results.write(options.out)}")
    return 1 if any(row.errors for table in results.tables for row in table.rows) else 0


def _names(text: str) -> list[str]:
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
