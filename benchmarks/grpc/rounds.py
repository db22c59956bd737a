"""One kind of calls: every contender runs from its beginning to its end, and they take turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.grpc import proxies
from benchmarks.grpc.proxies import Start
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Row, Table
from benchmarks.rounds import FAILURES, take_turns, void
from benchmarks.servers import ROOT, Setup

CONNECTIONS, STREAMS = 4, 32
"""Of the load; as many calls at a time as their product."""
PEER = "envoy"
"""Ratios are to this one."""
GRACE = 30.0
"""Seconds that the load may take beyond its duration before it counts as stuck."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A workload of one table."""

    name: str
    title: str
    backend: str
    """Of benchmarks/grpc/backend.py."""
    load: str
    """A module of this package."""


KINDS = (
    Kind(
        "grpc",
        f"Unary gRPC calls, {CONNECTIONS * STREAMS} at a time, each with ids of its own",
        "unary",
        "unary",
    ),
    Kind(
        "grpc-grpcio",
        f"Unary gRPC calls, {CONNECTIONS * STREAMS} at a time, from a client with grpcio",
        "unary",
        "grpcio",
    ),
    Kind(
        "grpc-chat",
        f"Messages of {CONNECTIONS * STREAMS} streams in both directions, each way 64 bytes",
        "chat",
        "chat",
    ),
)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How contenders are loaded, and from which core."""

    count: int
    seconds: int
    """Length of each."""
    core: int


@dataclass(slots=True)
class Running:
    """A contender that has been started, and its row."""

    child: Child
    port: int
    row: Row


def run_kind(kind: Kind, contenders: Mapping[str, Start], setup: Setup, rounds: Rounds) -> Table:
    """All rounds of all contenders; one that fails has a row that says why."""
    table = Table(kind.name, kind.title, peer=PEER)
    with Children(setup.children.directory) as children:
        mine = replace(setup, children=children)
        backend = proxies.start_backend(kind.backend, mine, rounds.core)
        backend.wait_for_port(setup.endpoints[1])
        running = []
        for (name, start), port in zip(
            contenders.items(), free_ports(len(contenders)), strict=True
        ):
            row = Row(name)
            table.rows.append(row)
            try:
                one = Running(start(mine, port), port, row)
                one.child.wait_for_port(port)
                _measure(one, kind, children, replace(rounds, seconds=1))  # to warm up
                row.rounds.clear()
                running.append(one)
            except FAILURES as error:
                void(row, error)
        take_turns(running, rounds.count, lambda one: _measure(one, kind, children, rounds))
    return table


def _measure(running: Running, kind: Kind, children: Children, rounds: Rounds) -> None:
    """One round: loads the contender and accounts its CPU time to what it completed."""
    child = running.child
    cpu = child.cpu_seconds()
    words = running.port, rounds.seconds, CONNECTIONS, STREAMS
    load = start_load(kind.load, words, children, rounds.core)
    found = load.result(rounds.seconds + GRACE)
    cpu = child.cpu_seconds() - cpu
    if child.popen.poll() is not None:
        raise ProcessError(f"ended\n{child.output_end()}")
    if found["errors"] or not found["calls"]:
        raise ProcessError(f"{found['errors']} errors beside {found['calls']:,} calls")
    figures = {
        "cpu_us": cpu / found["calls"] * 1e6,
        "rate_per_s": found["calls"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "busy": cpu / found["seconds"],
        "memory_mib": child.resident_bytes() / (1 << 20),
    }
    if kind.load == "chat":
        figures["messages_per_cpu_s"] = found["calls"] / max(cpu, 0.01)
    running.row.rounds.append(figures)


def start_load(
    module: str,
    words: Sequence[object],
    children: Children,
    core: int,
    idle: bool = False,
) -> Child:
    """A load of this package.

    :param words: its arguments.
    :param idle: runs when nothing else wants its core, and yields at once (sched(7)).
    """
    argv: list[str | Path] = [*(proxies.IDLE if idle else ())]
    argv += [sys.executable, "-m", f"benchmarks.grpc.{module}", *(str(word) for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return children.start("load", argv, core=core, environment=environment)
