"""REST and gRPC through one proxy: what small GETs at a constant rate wait beside gRPC calls.

Each round asks twice, without and with calls at half of the rate that the proxy has shown it can
do. Load and backends share a core, and would wait for each other: what makes the gRPC load runs at
a lower priority (``nice``), so that mostly the proxy is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.constant_rate import GRACE, at_rate
from benchmarks.processes import Child, Children, ProcessError
from benchmarks.results import Row, Table
from benchmarks.servers import ROOT

REST_RATE: Final = 1000.0
"""GETs per second: a few percent of the core."""
CONNECTIONS: Final = 16
"""Of the gRPC load, so that calls that a stall holds up find streams."""
EARLY: Final = 1
"""Seconds that the gRPC load runs before and after the GETs."""
MOST: Final = 8000.0
"""Calls per second: more, and load and backend have no core left for the GETs."""
NICE: Final = ("nice", "-n", "10")


def rows(name: str) -> tuple[Row, Row]:
    """Of one contender: alone, and beside gRPC."""
    return Row(f"{name}, REST alone"), Row(f"{name}, beside gRPC")


def measure(
    alone: Row,
    beside: Row,
    child: Child,
    port: int,
    rate: float,
    children: Children,
    seconds: int,
    core: int,
) -> None:
    """One round.

    :param rate: gRPC calls per second; ``MOST`` at most.
    """
    figures, errors = at_rate(child, port, REST_RATE, children, seconds, core)
    alone.rounds.append(figures)
    alone.errors += errors
    argv: list[str | Path] = [*NICE, sys.executable, "-m", "benchmarks.grpc.load", str(port)]
    argv += [str(seconds + 2 * EARLY), str(CONNECTIONS), "1", str(min(rate, MOST))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    load = children.start("paced", argv, core=core, environment=environment)
    load.wait_for_output("STARTED", GRACE)
    figures, errors = at_rate(child, port, REST_RATE, children, seconds, core)
    try:
        load.popen.wait(GRACE)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"paced: still running\n{load.output_end()}") from None
    beside.rounds.append(figures)
    beside.errors += errors + (load.popen.returncode != 0)


def ratio(table: Table, name: str) -> float | None:
    """What the 99th percentile beside gRPC is to that alone, round by round."""
    alone, beside = rows(name)
    return table.ratio("p99_ms", beside.contender, alone.contender)
