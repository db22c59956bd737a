"""Child processes of a benchmark: started on a core, measured, and stopped by their own ids.

Each child leads its own process group, so that Ctrl-C reaches the benchmark alone, which then
stops its children in an orderly way, and so that nothing that a child started outlives it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

STOP_TIMEOUT = 5.0
"""Seconds that a child has between SIGTERM and SIGKILL."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
_OPEN = ("01", "08")
"""TCP_ESTABLISHED, and TCP_CLOSE_WAIT: the client has closed it and the server has not."""


class ProcessError(Exception):
    """A child did not start, or ended early; the message holds the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child process and the file that holds what it printed."""

    name: str
    popen: subprocess.Popen[bytes]
    output: Path

    def cpu_seconds(self) -> float:
        """User and system time so far of the process and of its living descendants."""
        return sum(_cpu_ticks(pid) for pid in _tree(self.popen.pid)) / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Memory that the process and its living descendants have in RAM (statm of proc(5))."""
        return sum(_resident_pages(pid) for pid in _tree(self.popen.pid)) * _PAGE_SIZE

    def wait_for_port(self, port: int, timeout: float = 15.0) -> None:
        """Return once ``127.0.0.1:port`` accepts connections; raises ProcessError otherwise."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.popen.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        state = "ended" if self.popen.poll() is not None else f"not listening after {timeout:g} s"
        raise ProcessError(f"{self.name}: {state}\n{self.output_end()}")

    def wait_for_output(self, text: str, timeout: float) -> None:
        """Return once it has printed ``text``; raises ProcessError otherwise."""
        deadline = time.monotonic() + timeout
        while text not in self.output.read_text(errors="replace"):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise ProcessError(f"{self.name}: has not said {text!r}\n{self.output_end()}")
            time.sleep(0.02)

    def result(self, timeout: float) -> dict[str, Any]:
        """Waits for a child that ends by itself; the object after ``RESULT`` in what it printed.

        :param timeout: seconds.
        :raises ProcessError: if it prints none, or does not end.
        """
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"{self.name}: still running\n{self.output_end()}") from None
        for line in self.output.read_text().splitlines():
            if line.startswith("RESULT "):
                return dict(json.loads(line.removeprefix("RESULT ")))
        raise ProcessError(f"{self.name}: no result\n{self.output_end()}")

    def output_end(self) -> str:
        """The last lines that the child printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to whatever is left of the process group.

        The leader is reaped last: until then its id, which is the group's too, cannot pass to
        another process.
        """
        pid = self.popen.pid
        if self.popen.returncode is not None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        os.killpg(pid, signal.SIGKILL)
        self.popen.wait()


@dataclass(slots=True)
class Children:
    """Owns the children of one benchmark; leaving its ``with`` block stops them, last one first."""

    directory: Path
    _running: ExitStack = field(default_factory=ExitStack)

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start ``argv`` on ``core``, in the benchmark's directory."""
        output = self.directory / f"{name}.out"
        with output.open("wb") as sink, _on_core(core):
            popen = subprocess.Popen(
                [str(word) for word in argv],
                cwd=self.directory,
                env=None if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, popen, output)
        self._running.callback(child.stop)
        return child

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An impatient second Ctrl-C must not leave half of the children behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._running.close()


def connections_to(port: int) -> int:
    """TCP connections of IPv4 that the listener on ``port`` has, or that wait for it to accept."""
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:  # proc_net_tcp(5)
        _, local, _, state, *_ = line.split()
        found += state in _OPEN and int(local.rpartition(":")[2], 16) == port
    return found


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback interface that were free a moment ago, below those that the kernel
    gives to outgoing connections: while thousands of these are open, one of them may take any other
    port before its listener does."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(10_240, max(first, 20_480))
        with socket.socket() as trial, suppress(OSError):
            trial.bind(("127.0.0.1", port))
            if port not in ports:
                ports.append(port)
    return ports


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    """Run this process on ``core`` meanwhile: a child inherits that before it runs anything."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name (proc(5)), beginning with the state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_ticks(pid: int) -> int:
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])  # utime and stime, fields 14 and 15 of proc(5)


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def _tree(root: int) -> set[int]:
    """``root`` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(_stat(int(entry))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(parent, []).append(int(entry))
    found = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting.extend(children.get(pid, ()))
    return found
