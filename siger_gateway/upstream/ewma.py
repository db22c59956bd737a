"""How long an endpoint takes to answer: a peak-sensitive moving average (Finagle's PeakEwma, which
linkerd has too), and what one more exchange on it would cost.

A latency above the average replaces it at once; lower ones pull it down slowly. So an endpoint
that gets slow is left at the first sign of it, and is trusted again only little by little. The
average also falls with time alone: an endpoint that gets nothing is tried again after a while.

The state is two numbers on the endpoint. ``observe`` is called at the end of each attempt.
"""

from __future__ import annotations

from math import exp
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

DECAY: Final = 10.0
"""Seconds in which an average falls to 1/e of itself: Finagle's and linkerd's default."""

FAILURE: Final = 1.0
"""Seconds that a failed attempt counts as, at least. Failures are often quicker than answers, and
an endpoint that refuses everything would look like the best of all (ingress-nginx issue 5540)."""

FAILURES: Final = frozenset({0, 502, 503, 504})
"""0: no response; the others say that the service cannot answer. A 500 may be the request's."""

UNKNOWN: Final = 1e6
"""Seconds that an endpoint counts as that has work and has never answered: the first exchange finds
out, and until then the others are better. Far above every timeout, like Finagle's penalty."""


def observe(endpoint: Endpoint, status: int, seconds: float) -> None:
    """An ``Observer`` of the cluster."""
    record(endpoint, status, seconds, monotonic())


def cost(endpoint: Endpoint) -> float:
    """What one more exchange costs, now."""
    return cost_at(endpoint, monotonic())


def record(endpoint: Endpoint, status: int, seconds: float, now: float) -> None:
    """An attempt has ended at ``now`` (``time.monotonic()``) after ``seconds``."""
    if status in FAILURES and seconds < FAILURE:
        seconds = FAILURE
    if seconds < endpoint.latency:  # what time takes from the old value, the new one fills
        kept = exp((endpoint.latency_at - now) / DECAY)
        seconds = endpoint.latency * kept + seconds * (1.0 - kept)
    endpoint.latency = seconds
    endpoint.latency_at = now


def cost_at(endpoint: Endpoint, now: float) -> float:
    """The latency, times the exchanges in flight with the new one, for its weight: a figure to
    compare."""
    if not endpoint.latency:
        return endpoint.active * UNKNOWN / endpoint.effective_weight
    average = endpoint.latency * exp((endpoint.latency_at - now) / DECAY)
    return average * (endpoint.active + 1) / endpoint.effective_weight
