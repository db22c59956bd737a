"""What programs in Go have in common."""

from __future__ import annotations

import os
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
"""Where pip puts the programs of packages."""


def one_thread() -> dict[str, str]:
    """The environment in which one thread of a Go program runs at a time, as it has one core."""
    return {**os.environ, "GOMAXPROCS": "1"}
