"""What a contender is, and the duties that a workload can give it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from benchmarks.processes import Child
from benchmarks.servers import Setup

BIN = Path(sys.executable).parent
"""Where pip puts the programs of packages."""


class Duty(Enum):
    """What a proxy has to do besides forwarding."""

    PLAIN = auto()
    POLICIES = auto()
    """Refuse whoever has no token, count the requests of each user, write an access log."""
    TLS = auto()
    """Speak TLS 1.3 to its clients."""
    WEBSOCKET = auto()
    """Let clients switch protocols."""


EVERY_DUTY = frozenset(Duty)


@dataclass(frozen=True, slots=True)
class Contender:
    """A proxy, what starts it for a duty on a port, and the duties that it can have."""

    name: str
    start: Callable[[Setup, int, Duty], Child]
    duties: frozenset[Duty] = EVERY_DUTY
    note: str = ""
    """What it had in place of Siger's policies."""
    verifies: bool = False
    """Whether its policies look into a token; otherwise any is as good as another."""
