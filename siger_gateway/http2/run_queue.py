"""Which HTTP/2 connection runs next, and for how long before the loop looks at its sockets again.

One read can bring a hundred calls. As long as each was worked off in one go, small GETs over
HTTP/1.1 took 2.4 times their time (99th percentile) beside gRPC at half of what it can do; in
nginx it is three times. So while HTTP/1.1 is spoken, too, what HTTP/2 connections have read
waits here, and what has been written to them: in each turn of the loop a slice of it is done, in
the order in which it came, and in between the sockets are served. HTTP/1.1, with one request at a
time on a connection, does not wait here; where it keeps the loop busy, turns are longer, so that it
gets no more than a share.

Who speaks HTTP/2 alone pays nothing for this: what is read is looked at at once. So is what
services answer over HTTP/2 to clients of HTTP/1.1: in slices, many answers would not become few
system calls, and REST over h2c took 1.6 times the CPU.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

SLICE: Final = 8
"""Frames that are looked at before the sockets are, a tenth of a millisecond. Half as many changed
no percentile, and took 4 % more CPU for each call."""
SHARE: Final = 4
"""While others keep the loop busy, they get so many times as long as a turn at most."""
MOST_UNSEEN: Final = 1024 * 1024
"""Bytes that may wait, of all connections: beyond, they are looked at whoever else has to wait, and
what comes stays in the kernel, whose windows hold up those who send."""
REMEMBERED: Final = 3.0
"""Seconds for which it counts that HTTP/1.1 was spoken: less than lies between probes."""


class Runnable(Protocol):
    """A connection, as the queue sees it."""

    def look_at(self, data: bytes, most: int) -> bool:
        """Begins with ``data``, which has been read: looks at up to ``most`` frames. True: some are
        left, for ``go_on``."""

    def go_on(self, most: int) -> bool:
        """Looks at the next frames."""

    def flush(self) -> None:
        """Sends what has been written."""

    def break_off(self) -> None:
        """A fault of ours came up: closes at once."""


class RunQueue:
    """What there is to do for the HTTP/2 connections of one event loop.

    :param clock: seconds, as exact as a slice is short.
    """

    __slots__ = (
        "_busy",
        "_clock",
        "_current",
        "_http1_at",
        "_ready",
        "_scheduled",
        "_unseen",
        "_yielded_at",
        "loop",
        "yields",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.loop = loop
        self._clock = clock
        self.yields = False
        """HTTP/1.1 is spoken, too: what is read should wait here."""
        self._http1_at = -REMEMBERED
        self._ready: deque[tuple[Runnable, bytes]] = deque()
        self._current: Runnable | None = None  # whose frames are not all looked at
        self._unseen = 0  # bytes that wait
        self._busy = False  # with one of them
        self._scheduled = False
        self._yielded_at = 0.0  # seconds; zero: nothing was left when the last turn ended

    def see(self, *, http1: bool, now: float) -> None:
        """A listener says, once a second, whether HTTP/1.1 is spoken."""
        if http1:
            self._http1_at = now
        self.yields = now - self._http1_at < REMEMBERED

    def add(self, connection: Runnable, data: bytes) -> None:
        """``connection`` has read ``data``; if that is empty, it has written."""
        self._ready.append((connection, data))
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)
        if data:
            self._unseen += len(data)
            while self._unseen > MOST_UNSEEN and not self._busy:
                self._do_next()

    def catch_up(self, connection: Runnable) -> None:
        """Looks at all that ``connection`` has read; it is closed."""
        if self._current is connection:
            self._current = None
            while connection.go_on(SLICE):
                pass
        if self._ready:
            mine = [data for one, data in self._ready if one is connection]
            if mine:
                self._ready = deque(each for each in self._ready if each[0] is not connection)
            for data in filter(None, mine):
                self._unseen -= len(data)
                more = connection.look_at(data, SLICE)
                while more:
                    more = connection.go_on(SLICE)

    def settle(self) -> None:
        """Does all that there is, and all that comes of it."""
        while not self.empty:
            self._do_next()

    @property
    def empty(self) -> bool:
        """There is nothing to do."""
        return self._current is None and not self._ready

    def _turn(self) -> None:
        until = 0.0
        if self._yielded_at:
            now = self._clock()
            until = now + (now - self._yielded_at) / SHARE
        while not self.empty:
            if not self._do_next() and not (until and self._clock() < until):
                break
        if not self.empty:
            self._yielded_at = self._clock()
            self.loop.call_soon(self._turn)
        else:
            self._yielded_at = 0.0
            self._scheduled = False

    def _do_next(self) -> bool:
        """Whether the next to do is also done in this turn: all that only has to be sent."""
        ready = self._ready
        connection = self._current
        self._current = None
        self._busy = True
        try:
            if connection is not None:
                if connection.go_on(SLICE):
                    self._current = connection
            elif ready:
                connection, data = ready.popleft()
                if data:
                    self._unseen -= len(data)
                    if connection.look_at(data, SLICE):
                        self._current = connection
                else:
                    connection.flush()
        except Exception as error:  # noqa: BLE001 - as in a transport: others must go on
            self.loop.call_exception_handler(
                {"message": f"{connection!r} failed", "exception": error}
            )
            assert connection is not None
            connection.break_off()
        self._busy = False
        return self._current is None and bool(ready) and not ready[0][1]


_latest: RunQueue | None = None


def run_queue() -> RunQueue:
    """That of the running loop. A gateway has one loop; tests have one after another."""
    global _latest
    loop = asyncio.get_running_loop()  # a system call (getpid) in Python 3.11
    if _latest is None or _latest.loop is not loop:
        _latest = RunQueue(loop)
    return _latest
