"""Stopping a server's process so that it really stands still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

BOUND = 5.0
"""Seconds in which every thread has to stand still; it takes about a millisecond."""


def freeze(pid: int) -> None:
    """``SIGSTOP``, and waits until no thread of the process runs any more.

    The signal stops the threads one after the other: a server may answer a request that comes
    right after ``kill`` has returned.
    """
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + BOUND
    while not all(_stopped(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline, f"process {pid} does not stop"


def _stopped(task: Path) -> bool:
    # The state follows the name, which stands in parentheses and may hold anything (proc(5)).
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"
