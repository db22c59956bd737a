"""Instructions per proxied request, counted by valgrind (``make profile`` with ``--callgrind``).

A count of the instructions that a process runs in user space does not depend on what else the
machine does, so two versions of the code can be compared within a fraction of a percent where CPU
time differs by several from minute to minute. What it leaves out is the kernel (about half of a
proxy's CPU time) and that some instructions wait for memory: CPU time has the last word.

The proxy runs under callgrind, uninstrumented until it is warm. Then come exactly ``requests``
requests, in lockstep on a few connections, so that each run does the same in the same order. What
the proxy would have done in that time without any (timers) is counted too, and taken off: under
valgrind a request takes fifty times as long as it should, and timers would seem to cost as much.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.servers import Contender, Setup, start_backend, tokens

VARIANTS = 64
"""Different requests, as in requests.lua."""
WARM_UP = 640
"""Requests before anything is counted: code is specialized, connections are open."""
IDLE = 2.0
"""Seconds in which the proxy's timers are counted."""
START = 60.0
"""Seconds that a proxy may take to start under valgrind; the gateway needs about ten."""
TIMEOUT = 60.0
"""Seconds for one answer."""


class NoValgrind(Exception):
    """There is no valgrind on this machine."""


@dataclass(frozen=True, slots=True)
class Count:
    """What one run has counted, all of it in user space."""

    per_request: float
    """Instructions, without those of timers."""
    idle_per_second: float
    """Instructions of timers, while there are no requests."""
    requests: int
    file: Path
    """Callgrind's own, for ``callgrind_annotate`` and KCachegrind."""


@dataclass(slots=True)
class Under(Children):
    """Children that are started under another program.

    :param prefix: that program and its arguments.
    :param suffix: further arguments for the child.
    :param variables: added to the child's environment.
    """

    prefix: Sequence[str] = ()
    suffix: Sequence[str] = ()
    variables: Mapping[str, str] | None = None

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        if environment is not None and self.variables is not None:
            environment = {**environment, **self.variables}
        argv = [*self.prefix, *argv, *self.suffix]
        # Not super(): a dataclass with slots is another class than the one that super() was told.
        return Children.start(self, name, argv, core=core, environment=environment)


def count(
    contender: Contender,
    directory: Path,
    nginx: Path,
    *,
    requests: int,
    connections: int,
    cores: tuple[int, int],
    output: Path,
) -> Count:
    """Start the contender under callgrind and count.

    :param directory: for configurations and what the processes print.
    :param requests: counted ones; a multiple of ``connections``.
    :param cores: the proxy's, and that of load and backend.
    :param output: callgrind's file, overwritten.
    :raises NoValgrind: there is none.
    """
    if shutil.which("valgrind") is None:
        raise NoValgrind("valgrind is missing; on Debian or Ubuntu: apt-get install valgrind")
    prefix = (
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={output}",
        "--log-file=/dev/null",
    )
    # One process: a worker would be forked, and have a file of its own.
    suffix = ("-g", "master_process off;") if contender.name == "nginx" else ()
    # The order of sets and dicts of bytes, and so the number of collisions, same in every run.
    seed = {"PYTHONHASHSEED": "0"}
    first, second, port = free_ports(3)
    with (
        Children(directory) as others,
        Under(directory, prefix=prefix, suffix=suffix, variables=seed) as observed,
    ):
        backend = start_backend(others, nginx, (first, second), cores[1])
        backend.wait_for_port(first)
        setup = Setup(observed, nginx, (first, second), None, cores[0])
        child = contender.start(setup, port)
        child.wait_for_port(port, START)
        load = Lockstep(port, connections)
        load.run(WARM_UP)
        pid = child.popen.pid
        _control(pid, "--instr=on")
        load.run(VARIANTS * connections)  # whatever callgrind does when it sees code first
        _control(pid, "--zero")
        time.sleep(IDLE)
        idle = _dump(pid, output) / IDLE
        _control(pid, "--zero")
        began = time.monotonic()
        load.run(requests)
        took = time.monotonic() - began
        total = _dump(pid, output)
        load.close()
    # Now that callgrind has ended: it writes what came after the last dump to ``output`` itself.
    Path(f"{output}.2").replace(output)
    Path(f"{output}.1").unlink()
    return Count((total - idle * took) / requests, idle, requests, output)


class Lockstep:
    """A load of so many requests and no more: one on every connection, then all the answers.

    :param connections: kept open for all of it.
    """

    def __init__(self, port: int, connections: int) -> None:
        self._requests = [_request(number) for number in range(VARIANTS)]
        self._sent = 0
        self._sockets = [
            socket.create_connection(("127.0.0.1", port), TIMEOUT) for _ in range(connections)
        ]

    def run(self, requests: int) -> None:
        """Raises ProcessError for any answer other than 200."""
        for _ in range(requests // len(self._sockets)):
            for each in self._sockets:
                each.sendall(self._requests[self._sent % VARIANTS])
                self._sent += 1
            for each in self._sockets:
                _read_answer(each)

    def close(self) -> None:
        for each in self._sockets:
            each.close()


def _request(number: int) -> bytes:
    """The same eleven fields as in requests.lua."""
    shown = tokens(time.time())
    lines = (
        f"GET /api/v1/users/{1001 + number}?page={number + 1}&sort=name HTTP/1.1",
        "Host: api.example.com",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/126.0.0.0 Safari/537.36",
        "Accept: application/json, text/plain, */*",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
        f"Authorization: Bearer {shown[number % len(shown)]}",
        "Cookie: session=4f1c9a7d2e8b4c56a0d3; theme=dark; consent=1",
        "Referer: https://app.example.com/users?page=1",
        "Cache-Control: no-cache",
        f"X-Request-ID: 0190a5f2-7c4e-7b1a-9d3e-{number:012x}",
        "X-Client-Version: web/4.18.2",
    )
    return "\r\n".join((*lines, "", "")).encode()


def _read_answer(connection: socket.socket) -> None:
    received = b""
    missing = 1
    while missing > 0:
        more = connection.recv(65536)
        if not more:
            raise ProcessError(f"the proxy closed the connection after {received[:200]!r}")
        received += more
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not head.startswith(b"HTTP/1.1 200 ") or length is None:
            raise ProcessError(f"the proxy answered {received[:200]!r}")
        missing = int(length[1]) - len(body)


def _control(pid: int, command: str) -> None:
    """Have valgrind's process do something, between two of its instructions."""
    done = subprocess.run(
        ["callgrind_control", command, str(pid)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or "OK" not in done.stdout:
        raise ProcessError(f"callgrind_control {command}: {done.stdout}{done.stderr}")


def _dump(pid: int, output: Path) -> int:
    """Instructions since the last zero, by a file that callgrind writes."""
    before = set(output.parent.glob(f"{output.name}.*"))
    _control(pid, "--dump")
    written = set(output.parent.glob(f"{output.name}.*")) - before
    text = written.pop().read_text()
    found = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    if found is None:
        raise ProcessError(f"callgrind wrote no totals to {output}")
    return int(found[1])
