"""How long to wait before somebody is asked again after a failure: Consul, or a service."""

from __future__ import annotations

import random
from typing import Final

FIRST: Final = 0.2
"""Seconds: a restarted agent or service answers again within a few of these."""
LONGEST: Final = 10.0
"""Seconds: what a gateway may lag behind one that came back."""


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures in a row, from 1: doubled each time, with jitter
    downwards, so that the gateways that lost it together do not return together."""
    return min(FIRST * 2.0 ** min(failures - 1, 30), LONGEST) * random.uniform(0.5, 1.0)
