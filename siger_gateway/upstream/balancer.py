"""Which endpoint the next request takes. One class per policy, made anew for every table.

``pick(tried)`` is a plain function of the table and a little state; ``tried`` holds the endpoints
that this exchange has already failed on, and is nearly always empty. What has to survive a change
of the table stands on the endpoint. Every policy follows ``Endpoint.effective_weight``, which is
the configured weight, less while the endpoint is warming up (``slow_start.py``).
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import accumulate, chain
from math import gcd
from typing import TYPE_CHECKING, Final, Protocol

from siger_gateway.upstream import ewma

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

MAX_SCHEDULE: Final = 10_000
"""Entries of a weighted schedule; beyond it, weights are rounded to what fits."""

MOST_COMPARED: Final = 64
"""Endpoints that are compared for one request: 8 µs."""


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

    __slots__ = ("_urn",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._urn = Urn(endpoints)

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        urn = self._urn.without(tried) if tried else self._urn
        return urn.draw() if urn.endpoints else None


class LeastConnections:
    """The one with the fewest exchanges for its weight; among the idle, each in turn by weight.

    Of a long table, the one with the fewest among ``MOST_COMPARED`` that stand together somewhere:
    where so many are busy, nobody can tell it from the very least.
    """

    __slots__ = ("_endpoints", "_turns")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        self._turns = RoundRobin(endpoints)

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        best = self._turns.pick(())
        if best is None or best in tried:
            best = None
        elif not best.active:
            return best
        best_load = load(best) if best is not None else 0.0
        endpoints = self._endpoints
        # From anywhere, or the first of the table would get more than its share of the ties.
        start = random.randrange(len(endpoints)) if endpoints else 0
        places = chain(range(start, len(endpoints)), range(start))
        for compared, endpoint in enumerate((endpoints[place] for place in places), 1):
            one = load(endpoint)
            if (best is None or one < best_load) and endpoint not in tried:
                best, best_load = endpoint, one
                if not one:
                    break
            if compared >= MOST_COMPARED and best is not None:
                break
        return best


class TwoChoices:
    """The better of two drawn at random by their weight, so that it costs the same however long
    the table is, and gateways that see the same loads do not all run to the same endpoint
    (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

    :param cost: of one more exchange on an endpoint; on a tie the one drawn first is taken, so
        that equal endpoints are used by their weight.
    """

    __slots__ = ("_cost", "_urn")

    def __init__(self, endpoints: Sequence[Endpoint], cost: Callable[[Endpoint], float]) -> None:
        self._urn = Urn(endpoints)
        self._cost = cost

    def pick(self, tried: Sequence[Endpoint]) -> Endpoint | None:
        urn = self._urn.without(tried) if tried else self._urn
        if len(urn.endpoints) < 2:
            return urn.endpoints[0] if urn.endpoints else None
        first, second = urn.draw_two()
        return second if self._cost(second) < self._cost(first) else first


def load(endpoint: Endpoint) -> float:
    """Exchanges in flight for its weight."""
    return endpoint.active / endpoint.effective_weight


class Urn:
    """Endpoints to be drawn at random, each with a probability by its weight."""

    __slots__ = ("_ends", "_last", "endpoints")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._ends = list(accumulate(endpoint.effective_weight for endpoint in endpoints))
        self._last = len(endpoints) - 1

    def without(self, tried: Sequence[Endpoint]) -> Urn:
        return Urn([endpoint for endpoint in self.endpoints if endpoint not in tried])

    def draw(self) -> Endpoint:
        """One of them; there must be one."""
        return self.endpoints[self._index(random.random() * self._ends[-1])]

    def draw_two(self) -> tuple[Endpoint, Endpoint]:
        """Two different ones; there must be two."""
        ends = self._ends
        index = self._index(random.random() * ends[-1])
        weight = self.endpoints[index].effective_weight
        # The second as if the first had been cut out of the line that the weights make.
        place = random.random() * (ends[-1] - weight)
        if place >= ends[index] - weight:
            place += weight
        return self.endpoints[index], self.endpoints[self._index(place)]

    def _index(self, place: float) -> int:
        # A product just below the end may be rounded up to it: ``last`` bounds the search.
        return bisect(self._ends, place, 0, self._last)


POLICIES: Final[dict[str, Callable[[Sequence[Endpoint]], Balancer]]] = {
    "round_robin": RoundRobin,
    "random": Random,
    "least_connections": LeastConnections,
    "p2c": partial(TwoChoices, cost=load),
    "ewma": partial(TwoChoices, cost=ewma.cost),
    # For requests without a key; for those with one there is the ring (hashing.py).
    "consistent_hash": partial(TwoChoices, cost=load),
}


def smooth_schedule(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """One round of weighted round robin: each endpoint as often as its weight, evenly spread.

    The n-th turn of an endpoint of weight w stands at (n + 1/2) / w of the round. For weights
    5, 1, 1 that gives a a a b c a a, where one after the other would give a a a a a b c.
    """
    if not endpoints:
        return ()
    weights = [endpoint.effective_weight for endpoint in endpoints]
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
