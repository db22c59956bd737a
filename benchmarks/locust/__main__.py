"""``make locust``: a profile, headless, against ``--host`` or a ``siger_gateway dev`` of its own.

Prints Locust's summary, writes an HTML report, and ends with the thresholds' exit code. What this
program does not know is handed on to Locust: ``--web-port``, ``--max-p99`` …
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.servers import ROOT

HERE = Path(__file__).resolve().parent
PROFILES = ("proxy", "jobs", "events", "mixed")
REPORT = ROOT / "build" / "locust" / "report.html"
START = 30.0
"""Seconds that the embedded stack may take to start; it takes two."""


def start_dev(children: Children, core: int) -> str:
    """The embedded stack on a free port; returns its URL when it takes jobs."""
    (port,) = free_ports(1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SIGER_")}
    environment["PYTHONPATH"] = str(ROOT)
    argv = [sys.executable, "-m", "siger_gateway", "dev", "--port", str(port)]
    child = children.start("dev", argv, core=core, environment=environment)
    child.wait_for_port(port, START)
    _wait_for_jobs(child, port)
    return f"http://127.0.0.1:{port}"


def _wait_for_jobs(child: Child, port: int) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/api/v1/jobs?limit=1")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return
        time.sleep(0.05)
    raise ProcessError(f"dev: no jobs after {START:g} s\n{child.output_end()}")


def locust(options: argparse.Namespace, host: str, more: Sequence[str]) -> int:
    """Runs Locust; returns its exit code."""
    options.report.parent.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"--locustfile={HERE / (options.profile + '.py')}",
        f"--host={host}",
        f"--users={options.users}",
        f"--spawn-rate={options.users}",
        f"--html={options.report}",
        *([] if options.web else ["--headless", "--only-summary", f"--run-time={options.seconds}"]),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "locust", *arguments, *more]
    child = subprocess.Popen(argv, env=environment)
    try:
        return child.wait()
    except KeyboardInterrupt:  # Locust has got it too, and writes its report
        return child.wait()


def _url(text: str) -> str:
    # HOST is also what some shells call the machine.
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL, such as https://api.example.com")
    return text


def _options() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.locust",
        description=__doc__,
        epilog="Further options are Locust's, or the suite's: locust -f benchmarks/locust/mixed.py "
        "--help has them all.",
    )
    parser.add_argument("--host", type=_url, help="default: a dev gateway of its own")
    parser.add_argument("--profile", choices=PROFILES, default="mixed", help="%(default)s")
    parser.add_argument("--seconds", type=int, default=30, help="%(default)s")
    parser.add_argument("--users", type=int, default=20, help="at the same time; %(default)s")
    parser.add_argument("--report", type=Path, default=REPORT, help="%(default)s")
    parser.add_argument("--web", action="store_true", help="Locust's web UI instead, on port 8089")
    return parser.parse_known_args()


def main() -> int:
    """Exit status: Locust's (0, or 1 for a broken threshold); 1 if something did not start."""
    options, more = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if importlib.util.find_spec("locust") is None:
        print("locust is missing: pip install 'siger-gateway[bench]'", file=sys.stderr)
        return 1
    try:
        if options.host:
            return locust(options, options.host, more)
        with (
            tempfile.TemporaryDirectory(prefix="siger-locust-") as directory,
            Children(Path(directory)) as children,
        ):
            core = min(os.sched_getaffinity(0))
            return locust(options, start_dev(children, core), more)
    except KeyboardInterrupt:
        return 130
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
