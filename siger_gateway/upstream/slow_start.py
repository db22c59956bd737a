"""Slow start: an endpoint that joins others gets a part of its weight first, and more step by step.

An instance that has just come up has cold caches, empty pools and uncompiled code; its full share
at once makes its first clients wait. It begins with a tenth and grows in a line to the whole
(Envoy's and nginx's way). Endpoints that all come together, as when the gateway starts, are not
warmed: there is nobody to take the rest. Endpoints that come back after a failure join too.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

WARM: Final = 20
"""``Endpoint.warmth`` of full weight. Warmth counts in twentieths, so that weights stay whole."""

COLD: Final = 2
"""``Endpoint.warmth`` at first: 10 % of the weight, Envoy's default."""

STEP: Final = 1.0
"""Seconds between two looks at what is warming."""


class SlowStart:
    """The endpoints of one cluster that are warming up.

    :param seconds: until an endpoint has its full weight.
    """

    __slots__ = ("_in_use", "_next", "_seconds", "_since")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_use: Set[Endpoint] = frozenset()
        self._since: dict[Endpoint, float | None] = {}  # None: joined since the last look
        self._next = 0.0

    def __len__(self) -> int:
        """How many are warming up."""
        return len(self._since)

    def follow(self, in_use: Set[Endpoint]) -> None:
        """These are the endpoints that are chosen from now; those that join the others are cold.

        But not those that are only used because too few others are available: they were warm.
        """
        before, self._in_use = self._in_use, in_use
        for endpoint in list(self._since):
            if endpoint not in in_use or not endpoint.available:
                del self._since[endpoint]
                endpoint.weigh(endpoint.weight, WARM)
        if before & in_use:
            for endpoint in in_use - before:
                if endpoint.available:
                    self._since[endpoint] = None
                    endpoint.weigh(endpoint.weight, COLD)

    def advance(self, now: float) -> bool:
        """Whether some weights are others now; ``now`` is the loop's time. At most once a
        ``STEP``."""
        if now < self._next:
            return False
        self._next = now + STEP
        changed = False
        for endpoint, since in list(self._since.items()):
            if since is None:
                self._since[endpoint] = now
                continue
            grown = int((now - since) / self._seconds * WARM)
            if grown >= WARM:
                del self._since[endpoint]
            warmth = min(max(grown, COLD), WARM)
            if warmth != endpoint.warmth:
                endpoint.weigh(endpoint.weight, warmth)
                changed = True
        return changed
