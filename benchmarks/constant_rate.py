"""All contenders under the same constant rate (benchmarks/steady.py), each alone on its core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Figures, Row, Table
from benchmarks.rounds import FAILURES, Rounds, Running, probe, void
from benchmarks.servers import ROOT, Setup
from benchmarks.workloads import WORKLOADS

SHARES = (0.5, 0.8)
"""Of Siger's own saturation: the rates at which latencies are compared."""
CONNECTIONS = 128
GRACE = 15.0
"""Seconds that the load may take beyond its duration before it counts as stuck."""


def run_steady(
    share: float, rate: float, contenders: Sequence[Contender], setup: Setup, rounds: Rounds
) -> Table:
    """A row for each contender.

    :param rate: requests per second at which Siger is saturated, of which ``share`` come.
    """
    title = f"At a constant {share:.0%} of what Siger can do: {rate * share:,.0f} requests/s"
    table = Table(f"steady-{share * 100:.0f}", title)
    for each in contenders:
        row = Row(each.name)
        table.rows.append(row)
        with Children(setup.children.directory) as children:
            (port,) = free_ports(1)
            mine = replace(setup, children=children)
            try:
                one = Running(each, each.start(mine, port, Duty.PLAIN), port, row)
                probe(one, WORKLOADS[0], mine)
                for _ in range(rounds.count):
                    found, errors = at_rate(
                        one.child, port, rate * share, children, rounds.seconds, rounds.core
                    )
                    row.rounds.append(found)
                    row.errors += errors
            except FAILURES as error:
                void(row, error)
    return table


def at_rate(
    child: Child, port: int, rate: float, children: Children, seconds: int, core: int
) -> tuple[Figures, int]:
    """One round: what it gave, and how many errors.

    :param rate: requests per second.
    """
    words = [str(port), str(rate), str(seconds), str(CONNECTIONS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before, began = child.cpu_seconds(), perf_counter()
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.steady", *words]
    load = children.start("steady", argv, core=core, environment=environment)
    try:
        load.popen.wait(seconds + GRACE)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"steady: still running\n{load.output_end()}") from None
    lines = [one for one in load.output.read_text().splitlines() if one.startswith("RESULT ")]
    if not lines:
        raise ProcessError(f"steady: no result\n{load.output_end()}")
    found = json.loads(lines[0].removeprefix("RESULT "))
    errors = found.pop("errors")
    found["busy"] = (child.cpu_seconds() - before) / (perf_counter() - began)
    return found, errors
