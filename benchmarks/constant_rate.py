"""All contenders under the same constant rate (benchmarks/steady.py), in alternating rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import cast

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Children, ProcessError, free_ports
from benchmarks.results import Row, Table
from benchmarks.rounds import FAILURES, Rounds, Running, probe, settle, void
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
    with Children(setup.children.directory) as children:
        mine = replace(setup, children=children)
        running = []
        for each, port in zip(contenders, free_ports(len(contenders)), strict=True):
            row = Row(each.name)
            table.rows.append(row)
            try:
                one = Running(each, each.start(mine, port, Duty.PLAIN), port, row)
                probe(one, WORKLOADS[0], mine)
                running.append(one)
            except FAILURES as error:
                void(row, error)
        for number in range(rounds.count):
            for one in running if number % 2 == 0 else running[::-1]:
                try:
                    _round(one, rate * share, children, rounds)
                    settle(one.port)
                except FAILURES as error:
                    void(one.row, error)
            running = [one for one in running if not one.row.errors]
    return table


def _round(running: Running, rate: float, children: Children, rounds: Rounds) -> None:
    before, began = running.child.cpu_seconds(), perf_counter()
    found = load_steadily(children, running.port, rate, rounds.seconds, rounds.core)
    running.row.errors += int(found.pop("errors"))
    found["busy"] = (running.child.cpu_seconds() - before) / (perf_counter() - began)
    running.row.rounds.append(found)


def load_steadily(
    children: Children, port: int, rate: float, seconds: int, core: int
) -> dict[str, float]:
    """What one run of ``benchmarks.steady`` prints.

    :raises ProcessError: if it prints nothing, or does not end.
    """
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.steady"]
    argv += [str(word) for word in (port, rate, seconds, CONNECTIONS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    load = children.start("steady", argv, core=core, environment=environment)
    try:
        load.popen.wait(seconds + GRACE)
    except subprocess.TimeoutExpired:
        raise ProcessError(f"steady: still running\n{load.output_end()}") from None
    lines = [one for one in load.output.read_text().splitlines() if one.startswith("RESULT ")]
    if not lines:
        raise ProcessError(f"steady: no result\n{load.output_end()}")
    return cast(dict[str, float], json.loads(lines[0].removeprefix("RESULT ")))
