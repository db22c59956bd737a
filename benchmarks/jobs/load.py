"""The load of the jobs benchmark: wrk with a script, and figures out of it and of /proc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.load import GRACE, Wrk
from benchmarks.processes import Child, Children
from benchmarks.results import Figures, Row

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Bench:
    """What all workloads share."""

    children: Children
    wrk: Wrk
    nginx: Path
    nats: Child
    nats_port: int
    cores: tuple[int, int]
    """Of the contender; and of the load, the NATS server and what else is not measured."""
    rounds: int
    seconds: int
    connections: int


def load(
    bench: Bench, server: Child, port: int, script: str, argument: str, row: Row, seconds: int
) -> Figures:
    """One round of wrk; the errors are added to ``row``.

    :return: ``rate_per_s``, ``cpu_us``, ``nats_us`` (CPU of the NATS server), ``p50_ms``,
        ``p99_ms`` and ``busy_share``: of its core, that the contender used.
    """
    cpu, nats_cpu, began = server.cpu_seconds(), bench.nats.cpu_seconds(), perf_counter()
    found = _start(bench, port, script, argument, seconds).result(seconds + GRACE)
    cpu, elapsed = server.cpu_seconds() - cpu, perf_counter() - began
    nats_cpu = bench.nats.cpu_seconds() - nats_cpu
    requests = max(found["requests"], 1)
    row.errors += found["status_errors"] + found["socket_errors"] + (found["requests"] == 0)
    return {
        "rate_per_s": found["requests"] / found["duration"],
        "cpu_us": cpu / requests * 1e6,
        "nats_us": nats_cpu / requests * 1e6,
        "p50_ms": found["p50"] / 1e3,
        "p99_ms": found["p99"] / 1e3,
        "busy_share": cpu / elapsed,
    }


def _start(bench: Bench, port: int, script: str, argument: str, seconds: int) -> Child:
    return bench.children.start(
        "wrk",
        [
            bench.wrk.binary,
            "--threads=1",
            f"--connections={bench.connections}",
            f"--duration={seconds}s",
            f"--script={HERE / script}",
            f"http://127.0.0.1:{port}",
            *("--", argument),
        ],
        core=bench.cores[1],
        environment=bench.wrk.environment,
    )
