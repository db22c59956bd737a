"""What contenders written in Go have in common."""

from __future__ import annotations

import os


def one_thread() -> dict[str, str]:
    """The environment in which one thread of a Go program runs at a time, as it has one core."""
    return {**os.environ, "GOMAXPROCS": "1"}
