"""Deadlines without timers: one coarse clock for everything that may take too long.

A timer per request costs microseconds in every event loop. Things that wait with the same timeout
expire in the order in which they began, so a dict, which keeps insertion order, is all that is
needed: adding and removing are one dict operation each, and a tick looks at the oldest only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

TICK: Final = 0.1
"""Seconds: a timeout is late by at most twice this."""


class Expiring(Protocol):
    def on_timeout(self, queue: TimeoutQueue) -> None:
        """The time is over. Called once, after removal from ``queue``."""


class TimeoutQueue:
    """Things that share one timeout of ``seconds``."""

    __slots__ = ("_deadlines", "now", "seconds")

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.now = now
        self._deadlines: dict[Expiring, float] = {}

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, thing: Expiring) -> None:
        self._deadlines[thing] = self.now + self.seconds + TICK

    def again(self, thing: Expiring) -> None:
        """The time of ``thing``, which is queued or not, begins anew."""
        self._deadlines.pop(thing, None)
        self._deadlines[thing] = self.now + self.seconds + TICK

    def discard(self, thing: Expiring) -> None:
        self._deadlines.pop(thing, None)

    def expire(self, now: float, lag: float = 0.0) -> None:
        """Tells what is due by ``now``, the loop's time, which later ``add`` calls count from.

        :param lag: seconds, up to now, in which the loop did nothing: they do not count, for what
            came meanwhile has not been read yet.
        """
        self.now = now
        due = []
        for thing, deadline in self._deadlines.items():
            if deadline > now - lag:
                break
            due.append(thing)
        for thing in due:
            if self._deadlines.pop(thing, None) is not None:
                thing.on_timeout(self)


class Ticker:
    """The coarse clock: expires its queues and calls functions every ``TICK``, until closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queues: dict[tuple[str, float], TimeoutQueue] = {}
        self._callbacks: list[Callable[[float], None]] = []
        self._expected = self._loop.time() + TICK
        self._handle = self._loop.call_later(TICK, self._tick)
        self.lag = 0.0
        """Seconds by which the last tick was late: how long the loop was busy with other work."""

    def queue(self, purpose: str, seconds: float) -> TimeoutQueue:
        """The queue of this timeout. Equal ones with the same purpose share one; a thing that waits
        for two purposes at a time is in two queues, however long they are."""
        key = (purpose, seconds)
        if key not in self._queues:
            self._queues[key] = TimeoutQueue(seconds, self._loop.time())
        return self._queues[key]

    def every_tick(self, callback: Callable[[float], None]) -> None:
        """Calls ``callback`` with the loop's time, every ``TICK``."""
        self._callbacks.append(callback)

    def _tick(self) -> None:
        now = self._loop.time()
        self.lag = max(0.0, now - self._expected)
        self._expected = now + TICK
        self._handle = self._loop.call_later(TICK, self._tick)
        for queue in list(self._queues.values()):
            queue.expire(now, self.lag)
        for callback in self._callbacks:
            callback(now)

    def close(self) -> None:
        self._handle.cancel()
