"""Which endpoint the next request takes. One class per policy, made anew for every table.

``pick(tried)`` is a plain function of the table and a little state; ``tried`` holds the endpoints
that this exchange has already failed on, and is nearly always empty.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import reduce
from math import gcd
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

MAX_SCHEDULE: Final = 10_000
"""Entries of a weighted schedule; beyond it, weights are rounded to what fits."""


class Balancer(Protocol):
    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        """An endpoint not in ``tried``, or None when there is none."""


class RoundRobin:
    """Each in turn, as often as its weight says, as evenly spread as possible."""

    __slots__ = ("_position", "_schedule")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._schedule = smooth_schedule(endpoints)
        # Gateways that start together must not march together.
        self._position = random.randrange(len(self._schedule)) if self._schedule else 0

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        schedule = self._schedule
        if tried or not schedule:
            # Any other one, and the turns stay as they are: a retry that took the next turn would
            # make a dead endpoint and its neighbour swallow the turns of the whole table.
            left = [endpoint for endpoint in schedule if endpoint not in tried]
            return random.choice(left) if left else None
        position = self._position
        self._position = position + 1 if position + 1 < len(schedule) else 0
        return schedule[position]


class Random:
    """Any, with a probability by its weight."""

    __slots__ = ("_endpoints", "_weights")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._weights = [endpoint.weight for endpoint in endpoints]

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        if not tried and self._endpoints:
            return random.choices(self._endpoints, self._weights)[0]
        left = [endpoint for endpoint in self._endpoints if endpoint not in tried]
        return random.choices(left, [one.weight for one in left])[0] if left else None


class LeastConnections:
    """The one with the fewest exchanges for its weight; ties go round."""

    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._next = random.randrange(len(endpoints)) if endpoints else 0

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        best: Endpoint | None = None
        best_load = 0.0
        endpoints = self._endpoints
        self._next += 1
        start = self._next % len(endpoints) if endpoints else 0
        for endpoint in endpoints[start:] + endpoints[:start]:
            load = endpoint.active / endpoint.weight
            if (best is None or load < best_load) and endpoint not in tried:
                best, best_load = endpoint, load
                if not load:
                    break
        return best


POLICIES: Final[dict[str, type[RoundRobin] | type[Random] | type[LeastConnections]]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_connections": LeastConnections,
}


def smooth_schedule(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """One round of weighted round robin: each endpoint as often as its weight, evenly spread.

    The n-th turn of an endpoint of weight w stands at (n + 1/2) / w of the round. For weights
    5, 1, 1 that gives a a a b c a a, where one after the other would give a a a a a b c.
    """
    if not endpoints:
        return ()
    weights = [endpoint.weight for endpoint in endpoints]
    divisor = reduce(gcd, weights)
    weights = [weight // divisor for weight in weights]
    if sum(weights) > MAX_SCHEDULE:
        scale = MAX_SCHEDULE / sum(weights)
        weights = [max(1, round(weight * scale)) for weight in weights]
    turns = sorted(
        ((turn + 0.5) / weight, index)
        for index, weight in enumerate(weights)
        for turn in range(weight)
    )
    return tuple(endpoints[index] for _, index in turns)
