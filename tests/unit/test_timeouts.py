"""Deadlines without timers, against a model with one timer for each thing."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http.timeouts import TICK, Ticker, TimeoutQueue


class Thing:
    """Notes when it expired; may do something in that moment, as an exchange does."""

    def __init__(self, queue: TimeoutQueue) -> None:
        self.queue = queue
        self.expired: list[float] = []
        self.also_discards: Thing | None = None
        self.adds_itself_again = False

    def on_timeout(self, queue: TimeoutQueue) -> None:
        self.expired.append(self.queue.now)
        if self.also_discards is not None:
            self.queue.discard(self.also_discards)
        if self.adds_itself_again:
            self.queue.add(self)


def test_never_early_and_late_by_two_ticks_at_most() -> None:
    for began in (100.0, 100.03, 100.0999):
        queue = TimeoutQueue(1.0, 100.0)
        thing = Thing(queue)
        queue.add(thing)  # really at ``began``: the queue's clock is the last tick's
        now = 100.0
        while not thing.expired:
            now += TICK
            queue.expire(now)
        assert 0 <= now - (began + queue.seconds) <= 2 * TICK + 1e-9


def test_time_in_which_the_loop_was_busy_does_not_count() -> None:
    """What has come in that time has not been read yet."""
    queue = TimeoutQueue(1.0, 100.0)
    thing = Thing(queue)
    queue.add(thing)
    queue.expire(101.5, lag=1.4)
    assert not thing.expired
    queue.expire(101.6)
    assert thing.expired


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "discard"]), st.integers(0, 4)),
        st.tuples(st.just("tick"), st.integers(1, 30)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(ACTIONS)
def test_things_expire_as_if_each_had_its_own_timer(actions: list[tuple[str, int]]) -> None:
    queue = TimeoutQueue(0.5, 0.0)
    things = [Thing(queue) for _ in range(5)]
    due: dict[Thing, float] = {}
    expected: dict[Thing, list[float]] = {thing: [] for thing in things}
    for action, number in actions:
        if action == "tick":
            now = queue.now + number * 0.05
            for thing in [one for one, deadline in due.items() if deadline <= now]:
                expected[thing].append(now)
                del due[thing]
            queue.expire(now)
        elif action == "discard":
            due.pop(things[number], None)
            queue.discard(things[number])
        elif things[number] not in due:
            due[things[number]] = queue.now + queue.seconds + TICK
            queue.add(things[number])
        assert {thing: thing.expired for thing in things} == expected
        assert len(queue) == len(due)


def test_what_one_timeout_discards_does_not_expire_in_the_same_tick() -> None:
    queue = TimeoutQueue(1.0, 0.0)
    first, second = Thing(queue), Thing(queue)
    first.also_discards = second
    queue.add(first)
    queue.add(second)
    queue.expire(10.0)
    assert (first.expired, second.expired, len(queue)) == ([10.0], [], 0)


def test_what_is_added_in_a_timeout_waits_its_whole_time() -> None:
    queue = TimeoutQueue(1.0, 0.0)
    thing = Thing(queue)
    thing.adds_itself_again = True
    queue.add(thing)
    for now in (10.0, 10.5, 11.0, 11.2):
        queue.expire(now)
    assert thing.expired == [10.0, 11.2]


async def test_equal_timeouts_share_a_queue() -> None:
    ticker = Ticker()
    assert ticker.queue("a", 1.0) is ticker.queue("a", 1.0)
    assert ticker.queue("a", 1.0) is not ticker.queue("a", 2.0)
    ticker.close()


async def test_the_ticker_expires_its_queues_and_calls_its_callbacks_until_closed() -> None:
    ticker = Ticker()
    expired = asyncio.Event()
    ticks: list[float] = []
    ticker.every_tick(ticks.append)

    class Waiting:
        def on_timeout(self, queue: TimeoutQueue) -> None:
            expired.set()

    began = asyncio.get_running_loop().time()
    ticker.queue("a", 0.05).add(Waiting())
    async with asyncio.timeout(10):
        await expired.wait()
    assert asyncio.get_running_loop().time() - began >= 0.05
    assert ticks == sorted(ticks)
    assert ticks
    ticker.close()
    assert ticker._handle.cancelled()


async def test_a_callback_that_fails_does_not_stop_the_clock() -> None:
    ticker = Ticker()
    loop = asyncio.get_running_loop()
    failures: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    twice = asyncio.Event()

    def fail(now: float) -> None:
        if failures:
            twice.set()
        raise RuntimeError

    ticker.every_tick(fail)
    async with asyncio.timeout(10):
        await twice.wait()
    ticker.close()
    assert isinstance(failures[0]["exception"], RuntimeError)


@pytest.mark.parametrize("late", [0.0, 0.7])
async def test_the_lag_is_what_a_tick_is_late(late: float) -> None:
    ticker = Ticker()
    ticker._expected = asyncio.get_running_loop().time() - late
    ticker._handle.cancel()
    ticker._tick()
    assert late <= ticker.lag < late + 0.5
    ticker.close()
