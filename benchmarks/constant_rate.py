"""All contenders under the same constant rate (benchmarks/steady.py), in alternating rounds."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Children, free_ports
from benchmarks.results import Row, Table
from benchmarks.rounds import FAILURES, Rounds, Running, probe, settle, take_turns, void
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
        take_turns(running, rounds.count, lambda one: _round(one, rate * share, children, rounds))
    return table


def _round(running: Running, rate: float, children: Children, rounds: Rounds) -> None:
    before, began = running.child.cpu_seconds(), perf_counter()
    found = load_steadily(children, running.port, rate, rounds.seconds, rounds.core)
    running.row.errors += int(found.pop("errors"))
    found["busy"] = (running.child.cpu_seconds() - before) / (perf_counter() - began)
    running.row.rounds.append(found)
    settle(running.port)


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
    return load.result(seconds + GRACE)
