"""HTTP/2 beside HTTP/1.1: what has been read is looked at in slices, and nobody is held up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from siger_gateway.http2.run_queue import MOST_UNSEEN, REMEMBERED, SHARE, SLICE, RunQueue

pytestmark = pytest.mark.asyncio


class Clock:
    """Seconds that pass only where something is done."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


class Frames:
    """A connection on which each byte is a frame that takes a second, and ``!`` one that we cannot
    cope with."""

    def __init__(self, log: list[str], clock: Clock | None = None) -> None:
        self.log = log
        self.left = b""
        self.clock = clock or Clock()

    def look_at(self, data: bytes, most: int) -> bool:
        self.left = data
        return self.go_on(most)

    def go_on(self, most: int) -> bool:
        now, self.left = self.left[:most], self.left[most:]
        self.log.append(now.decode())
        self.clock.now += len(now)
        if b"!" in now:
            raise ZeroDivisionError
        return bool(self.left)

    def flush(self) -> None:
        self.log.append("sent")

    def break_off(self) -> None:
        self.log.append("closed")


async def turns(queue: RunQueue, log: list[str], clock: Clock, busy: int = 0) -> None:
    """Turns of the loop, in each of which somebody else takes ``busy`` seconds, until the queue is
    empty."""
    done = asyncio.Event()

    def somebody_else() -> None:
        log.append("/")
        clock.now += busy
        if queue.empty:
            done.set()
        else:
            queue.loop.call_soon(somebody_else)

    queue.loop.call_soon(somebody_else)
    await asyncio.wait_for(done.wait(), 5)


def queue_on(clock: Clock) -> RunQueue:
    return RunQueue(asyncio.get_running_loop(), clock)


async def test_a_read_of_many_frames_leaves_room_for_others_in_between() -> None:
    log: list[str] = []
    queue = queue_on(clock := Clock())
    queue.add(Frames(log, clock), b"a" * (2 * SLICE + 1))
    await turns(queue, log, clock)
    assert log == ["a" * SLICE, "/", "a" * SLICE, "/", "a", "/"]


async def test_others_who_keep_the_loop_busy_get_no_more_than_their_share() -> None:
    log: list[str] = []
    queue = queue_on(clock := Clock())
    queue.add(Frames(log, clock), b"a" * (8 * SLICE))
    await turns(queue, log, clock, busy=3 * SLICE * SHARE)
    assert "".join(log) == "a" * SLICE + "/" + "a" * (3 * SLICE) + "/" + "a" * (3 * SLICE) + (
        "/" + "a" * SLICE + "/"
    )


async def test_reads_come_in_their_order_and_what_was_written_is_sent_behind_them() -> None:
    log: list[str] = []
    queue = queue_on(clock := Clock())
    one, two = Frames(log, clock), Frames(log, clock)
    queue.add(one, b"a" * (SLICE + 1))
    queue.add(two, b"b")
    queue.add(one, b"")
    queue.add(two, b"")
    queue.add(one, b"c")
    await turns(queue, log, clock)
    assert log == ["a" * SLICE, "/", "a", "/", "b", "sent", "sent", "/", "c", "/"]


async def test_a_fault_of_ours_closes_its_connection_and_holds_up_no_other() -> None:
    log: list[str] = []
    queue = queue_on(clock := Clock())
    told: list[dict[str, Any]] = []
    queue.loop.set_exception_handler(lambda _, context: told.append(context))
    queue.add(Frames(log), b"!")
    queue.add(Frames(log), b"b")
    await turns(queue, log, clock)
    assert [one for one in log if one != "/"] == ["!", "closed", "b"]
    assert [type(one["exception"]) for one in told] == [ZeroDivisionError]


async def test_no_more_than_a_bound_waits() -> None:
    log: list[str] = []
    queue = queue_on(Clock())
    queue.add(Frames(log), b"a" * (MOST_UNSEEN // 2))
    queue.add(Frames(log), b"b" * (MOST_UNSEEN // 2))
    assert not log
    queue.add(Frames(log), b"c")
    assert log
    queue.settle()
    seen = "".join(log)
    assert (seen.count("a"), seen.count("b"), seen[-1]) == (MOST_UNSEEN // 2, MOST_UNSEEN // 2, "c")


async def test_what_a_lost_connection_has_read_is_not_lost() -> None:
    log: list[str] = []
    queue = queue_on(Clock())
    one = Frames(log)
    queue.add(one, b"a" * (SLICE + 1))
    queue.add(Frames(log), b"b")
    queue.add(one, b"c" * (SLICE + 1))
    queue.add(one, b"")
    queue.catch_up(one)
    assert log == ["a" * SLICE, "a", "c" * SLICE, "c"]
    queue.settle()
    assert log[4:] == ["b"]


async def test_http2_alone_does_not_wait() -> None:
    queue = queue_on(Clock())
    assert not queue.yields
    queue.see(http1=True, now=100.0)
    assert queue.yields
    queue.see(http1=False, now=100.0 + REMEMBERED / 2)
    assert queue.yields
    queue.see(http1=False, now=100.0 + REMEMBERED)
    assert not queue.yields
