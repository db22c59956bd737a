"""What REST's latency is while the same process is busy with gRPC, beside what it is alone.

Small GETs over HTTP/1.1 come at a constant rate, timed from the moment at which they were due
(steady.py); then the same beside unary calls at half of the rate that saturates the contender. All
contenders run from beginning to end and take turns.

The loads and the services share a core, which gRPC makes busier, too. So gRPC's get what REST's
leave (``SCHED_IDLE``: niceness lets them finish their slice, of up to 3 ms); and what they do to
the times all the same is the row ``direct``, without a proxy.

There are two 99th percentiles: that of a whole round, in which stalls of the machine decide, and
the typical one (steady.py), which is the proxy's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

from benchmarks.constant_rate import load_steadily
from benchmarks.grpc import proxies
from benchmarks.grpc.proxies import Start
from benchmarks.grpc.rounds import CONNECTIONS, GRACE, PEER, STREAMS, Rounds, start_load
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import Row, Table
from benchmarks.rounds import FAILURES, take_turns, void
from benchmarks.servers import Setup

RATE = 2000
"""GETs per second: an eighth of what Siger can do."""
SHARE = 0.5
"""Of gRPC's saturation."""
LEAST = 0.97
"""Of the calls that should have been made: with less, there was less load than is claimed."""
MOST_STREAMS = 100
"""Of a connection, at a constant rate: what every proxy takes."""
MARGIN = 10
"""Seconds that gRPC's load would go on beyond REST's, which ends it."""
START = 10.0
"""Seconds that it has to start."""
CALIBRATION = 2
"""Seconds in which saturation is measured."""
NOT_HERE = ("haproxy",)
"""Half of its saturation is more than the load's core can take beside REST's."""
DIRECT = "direct"


@dataclass(slots=True)
class Running:
    """A contender that has been started, and its row.

    :param child: None if there is no proxy.
    :param calls_rate: of gRPC, per second.
    """

    child: Child | None
    rest_port: int
    calls_port: int
    calls_rate: float
    row: Row

    def cpu_seconds(self) -> float:
        return self.child.cpu_seconds() if self.child is not None else 0.0


def run_beside(
    contenders: Mapping[str, Start], setup: Setup, rest: tuple[int, int], rounds: Rounds
) -> Table:
    """All rounds of all contenders; one that fails has a row that says why.

    :param rest: ports of the service of REST.
    """
    title = f"REST at {RATE:,} requests/s, alone and beside gRPC at {SHARE:.0%} of its saturation"
    table = Table("grpc-beside", title, peer=PEER)
    with Children(setup.children.directory) as children:
        mine = replace(setup, children=children)
        backend = proxies.start_backend("unary", mine, rounds.core, idle=True)
        backend.wait_for_port(setup.endpoints[1])
        running = []
        chosen = {name: start for name, start in contenders.items() if name not in NOT_HERE}
        for (name, start), port in zip(chosen.items(), free_ports(len(chosen)), strict=True):
            row = Row(name)
            table.rows.append(row)
            try:
                child = start(mine, port)
                child.wait_for_port(port)
                rate = _saturation(child, port, children, rounds.core) * SHARE
                running.append(Running(child, port, port, rate, row))
            except FAILURES as error:
                void(row, error)
        if running:
            most = max(one.calls_rate for one in running)
            direct = Running(None, rest[0], setup.endpoints[0], most, Row(DIRECT))
            table.rows.append(direct.row)
            running.append(direct)
        take_turns(running, rounds.count, lambda one: _round(one, children, rounds))
    for row in table.rows:
        if not row.errors:
            row.note = f"beside {row.median('calls_per_s'):,.0f} calls/s"
    return table


def _saturation(child: Child, port: int, children: Children, core: int) -> float:
    """Calls for each second of CPU: what it could do if the load were no limit."""
    before = child.cpu_seconds()
    words = port, CALIBRATION, CONNECTIONS, STREAMS
    found = start_load("unary", words, children, core).result(CALIBRATION + GRACE)
    cpu = child.cpu_seconds() - before
    if found["errors"] or not found["calls"]:
        raise ProcessError(f"{found['errors']} errors beside {found['calls']} calls")
    return found["calls"] / max(cpu, 0.01)


def _round(running: Running, children: Children, rounds: Rounds) -> None:
    """REST alone, then beside gRPC."""
    alone = load_steadily(children, running.rest_port, RATE, rounds.seconds, rounds.core)
    words = running.calls_port, rounds.seconds + MARGIN, CONNECTIONS, MOST_STREAMS
    load = start_load("unary", (*words, running.calls_rate), children, rounds.core, idle=True)
    load.wait_for_output("STARTED", START)
    cpu, began = running.cpu_seconds(), perf_counter()
    beside = load_steadily(children, running.rest_port, RATE, rounds.seconds, rounds.core)
    busy = (running.cpu_seconds() - cpu) / (perf_counter() - began)
    if load.popen.poll() is not None:
        raise ProcessError(f"gRPC's load has ended before REST's\n{load.output_end()}")
    load.popen.terminate()
    calls = load.result(GRACE)
    calls_per_s = calls["calls"] / calls["seconds"]
    if calls_per_s < running.calls_rate * LEAST:
        wanted = f"of {running.calls_rate:,.0f} calls/s"
        raise ProcessError(f"{wanted} {calls_per_s:,.0f} were made")
    if errors := int(alone["errors"] + beside["errors"] + calls["errors"]):
        raise ProcessError(f"{errors} errors")
    running.row.rounds.append(
        {
            "p50_ms": alone["p50_ms"],
            "p99_ms": alone["p99_ms"],
            "beside_p50_ms": beside["p50_ms"],
            "beside_p99_ms": beside["p99_ms"],
            "p99_growth": beside["p99_ms"] / max(alone["p99_ms"], 0.001),
            "typical_p99_ms": alone["typical_p99_ms"],
            "beside_typical_p99_ms": beside["typical_p99_ms"],
            "typical_p99_growth": beside["typical_p99_ms"] / max(alone["typical_p99_ms"], 0.001),
            "calls_per_s": calls_per_s,
            "busy": busy,
        }
    )
