"""One workload: every contender runs from its beginning to its end, and they are loaded in turn.

A contender is asked a few things before it is loaded: fast errors are no throughput, and policies
that let anybody in are no equivalent.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter, sleep, time
from typing import Protocol, TypeVar

from benchmarks import websocket_load
from benchmarks.contenders.contender import Contender, Duty
from benchmarks.load import LoadResult, Wrk, run_load
from benchmarks.processes import Child, Children, ProcessError, connections_to, free_ports
from benchmarks.results import Row, Table, turns
from benchmarks.servers import Setup, bad_tokens, tokens
from benchmarks.workloads import Workload

READY = 5.0
"""Seconds that a contender has to answer for the first time, once it listens."""

SETTLED = 10.0
"""Seconds that a contender has to close the connections of a round."""

FAILURES = (ProcessError, OSError, http.client.HTTPException)
"""What voids the row of one contender and leaves the others alone."""

REFUSALS = (401, 403)


@dataclass(slots=True)
class Running:
    """A contender that has been started, and its row."""

    contender: Contender
    child: Child
    port: int
    row: Row


@dataclass(frozen=True, slots=True)
class Rounds:
    """How contenders are loaded, and from which core."""

    count: int
    seconds: int
    """Length of each."""
    wrk: Wrk
    core: int


def run_workload(
    workload: Workload, contenders: Sequence[Contender], setup: Setup, rounds: Rounds
) -> Table:
    """All rounds of all contenders that can do it; one that fails has a row that says why."""
    table = Table(workload.name, workload.title)
    chosen = [each for each in contenders if workload.duty in each.duties]
    with Children(setup.children.directory) as children:
        mine = replace(setup, children=children)
        if workload.duty is Duty.WEBSOCKET:
            first, second = free_ports(2)
            mine = replace(mine, endpoints=(first, second))
            websocket_load.start_echo(children, (first, second), rounds.core).wait_for_port(second)
        seconds = max(rounds.seconds, workload.least_seconds)
        load = replace(rounds, wrk=workload.environment(rounds.wrk), seconds=seconds)
        running = []
        for each, port in zip(chosen, free_ports(len(chosen)), strict=True):
            row = Row(each.name, note=each.note if workload.duty is Duty.POLICIES else "")
            table.rows.append(row)
            try:
                one = Running(each, each.start(mine, port, workload.duty), port, row)
                probe(one, workload, setup)
                _measure(one, workload, children, replace(load, seconds=workload.least_seconds))
                row.rounds.clear()
                if not row.errors:
                    running.append(one)
            except FAILURES as error:
                void(row, error)
        take_turns(running, rounds.count, lambda one: _measure(one, workload, children, load))
    return table


class HasRow(Protocol):
    """A contender that has been started."""

    row: Row


T = TypeVar("T", bound=HasRow)


def take_turns(running: Sequence[T], count: int, measure: Callable[[T], None]) -> None:
    """So many rounds of all; one that fails is void and left out from then on."""
    for number in range(count):
        for one in turns(running, number):
            try:
                measure(one)
            except FAILURES as error:
                void(one.row, error)
        running = [one for one in running if not one.row.errors]


def void(row: Row, error: Exception) -> None:
    """The row has no figures, but says why."""
    row.errors += 1
    row.note = str(error) or repr(error)
    print(f"{row.contender}: {row.note}", file=sys.stderr)


def probe(running: Running, workload: Workload, setup: Setup) -> None:
    """One request must bring the backend's own answer, and requests without the right to it none.

    Some contenders listen before they have their routes, so the first one may be asked again.

    :raises ProcessError: if an answer is another one.
    """
    running.child.wait_for_port(running.port)
    deadline = perf_counter() + READY
    while True:
        try:
            if workload.duty is Duty.WEBSOCKET:
                websocket_load.probe(running.port)
            else:
                _expect_answer(running, workload, setup)
            break
        except FAILURES:
            if perf_counter() > deadline:
                raise
            sleep(0.05)
    if workload.duty is Duty.POLICIES:
        _expect_refusals(running, workload, setup)


def _expect_answer(running: Running, workload: Workload, setup: Setup) -> None:
    status, length = _ask(running, workload, setup, tokens(time())[0])
    if status != 200 or length < 100 or (workload.answer and length != workload.answer):
        raise ProcessError(f"answered {status} with {length} bytes")


def _expect_refusals(running: Running, workload: Workload, setup: Setup) -> None:
    unwanted = {"no token": ""}
    if running.contender.verifies:
        unwanted |= bad_tokens(time())
    for what, token in unwanted.items():
        status, _ = _ask(running, workload, setup, token)
        if status not in REFUSALS:
            raise ProcessError(f"{what}: answered {status}")


def _ask(running: Running, workload: Workload, setup: Setup, token: str) -> tuple[int, int]:
    """The status, and the length of the body."""
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    if workload.duty is Duty.TLS:
        trust = ssl.create_default_context(cafile=setup.certificate)
        trust.minimum_version = ssl.TLSVersion.TLSv1_3
        connection = http.client.HTTPSConnection(
            "127.0.0.1", running.port, timeout=5, context=trust
        )
    headers = {"Host": "api.example.com"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    body = b"x" * workload.body if workload.body else None
    try:
        connection.request(workload.method, workload.path.replace("{n}", "1"), body, headers)
        response = connection.getresponse()
        return response.status, len(response.read())
    finally:
        connection.close()


def _measure(running: Running, workload: Workload, children: Children, rounds: Rounds) -> None:
    """One round: loads the contender and accounts its CPU time to the requests it completed."""
    cpu_before, began = running.child.cpu_seconds(), perf_counter()
    load = _load(running.port, workload, children, rounds)
    cpu, elapsed = running.child.cpu_seconds() - cpu_before, perf_counter() - began
    if running.child.popen.poll() is not None:
        raise ProcessError(f"ended\n{running.child.output_end()}")
    figures = {
        "cpu_us": cpu / max(load.requests, 1) * 1e6,
        "rate_per_s": load.requests / load.seconds,
        "p50_ms": load.p50_us / 1000,
        "p99_ms": load.p99_us / 1000,
        "busy": cpu / elapsed,
        "memory_mib": running.child.resident_bytes() / (1 << 20),
    }
    if workload.answer or workload.body:
        size = workload.answer or workload.body
        figures["mib_per_cpu_s"] = load.requests * size / (1 << 20) / max(cpu, 0.01)
    running.row.rounds.append(figures)
    if load.errors or not load.requests:
        running.row.errors += load.errors or 1
        running.row.note = f"of {load.requests:,} requests {load.errors:,} failed"
    settle(running.port)


def settle(port: int) -> None:
    """Return once the proxy has closed what the load has left: it takes seconds for thousands of
    connections, in which it would accept none of the next round."""
    deadline = perf_counter() + SETTLED
    while connections_to(port) and perf_counter() < deadline:
        sleep(0.05)


def _load(port: int, workload: Workload, children: Children, rounds: Rounds) -> LoadResult:
    if workload.duty is Duty.WEBSOCKET:
        return websocket_load.run_websocket_load(
            children,
            port=port,
            connections=workload.connections,
            seconds=rounds.seconds,
            core=rounds.core,
        )
    return run_load(
        children,
        rounds.wrk,
        port=port,
        connections=workload.connections,
        seconds=rounds.seconds,
        core=rounds.core,
        script="workload.lua",
        scheme=workload.scheme,
    )
