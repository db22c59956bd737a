"""Moments in messages and answers: RFC 3339 on one side, seconds since 1970 on the other. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

YEAR_9999: Final = 253_370_764_800
"""Seconds from 1970 to the last year that can be written; beyond it a timestamp is nonsense."""

MAX_LENGTH: Final = 64
"""Characters of a timestamp: RFC 3339 needs 32 for microseconds and an offset."""


def read(value: Any) -> float | None:
    """RFC 3339 -> seconds since 1970; None for anything else."""
    return _seconds(value) if isinstance(value, str) and len(value) <= MAX_LENGTH else None


def write(seconds: float) -> str:
    """RFC 3339 in UTC with milliseconds and ``Z``, as ``telemetry.log.utc_timestamp`` writes it.

    What is half a microsecond short of a millisecond is one: floats are that wrong nowadays.
    """
    whole, milliseconds = divmod(int(seconds * 1000 + 0.0005), 1000)
    return f"{_second(whole)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _seconds(text: str) -> float | None:
    """A message often says the same moment twice, and then it is read, and held, once."""
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < YEAR_9999 else None


@lru_cache(maxsize=1024)
def _second(whole: int) -> str:
    """What all moments within a second have in common."""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
