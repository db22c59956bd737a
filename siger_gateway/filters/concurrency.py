"""How many requests somebody may have under way at the same time.

A rate says how often somebody comes, not how long each stay is: a hundred slow requests hold a
hundred connections to a service. This counts what is under way, by key, and forgets a key with its
last request: there is nothing to expire, and no more keys than requests.
"""

from __future__ import annotations

from siger_gateway.filters.gcra import Key


class Concurrency:
    """At most ``limit`` at a time for each key. Whoever was let in leaves once, however it ends: a
    filter puts that into ``Call.on_end``.

    A reload makes a new one. Those that were let in by the old one leave the old one.

    :param limit: at least 1.
    :raises ValueError: it is less.
    """

    __slots__ = ("_limit", "_under_way")

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a limit of {limit} lets nobody in")
        self._limit = limit
        self._under_way: dict[Key, int] = {}

    def __repr__(self) -> str:
        counts = self._under_way
        return f"<Concurrency {self._limit}: {sum(counts.values())} of {len(counts)} keys>"

    def enter(self, key: Key) -> bool:
        """Whether one more may come; then it is counted."""
        count = self._under_way.get(key, 0)
        if count >= self._limit:
            return False
        self._under_way[key] = count + 1
        return True

    def leave(self, key: Key) -> None:
        """One that was let in is over.

        :raises KeyError: none was, or all have left: a slot given back twice would let one more in
            than the limit.
        """
        count = self._under_way[key]
        if count == 1:
            del self._under_way[key]
        else:
            self._under_way[key] = count - 1
