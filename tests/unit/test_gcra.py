"""Rate limits: who may come, how long others wait, and what a million keys can do."""

from __future__ import annotations

from fractions import Fraction
from math import floor, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.filters.gcra import SLOTS, START, WAYS, Key, Limiter, Outcome, take_all

MIB = 1 << 20

NOW = 1_000_000.0
"""Twelve days after the machine started."""


class Bucket:
    """The model: tokens that are refilled, in exact arithmetic."""

    def __init__(self, requests: int, per: int, burst: int) -> None:
        self.rate = Fraction(requests, per)
        self.burst = burst
        self.tokens = Fraction(burst)
        self.at = Fraction(0)

    def refill(self, now: float) -> None:
        self.tokens = min(Fraction(self.burst), self.tokens + (Fraction(now) - self.at) * self.rate)
        self.at = Fraction(now)

    def take(self, now: float, cost: int) -> tuple[bool, int, float, float]:
        """Allowed, remaining, and the seconds until the cost is there and until all is."""
        self.refill(now)
        allowed = cost <= self.tokens
        wait = 0.0 if allowed else float((cost - self.tokens) / self.rate)
        if allowed:
            self.tokens -= cost
        full_after = float((self.burst - self.tokens) / self.rate)
        return allowed, floor(self.tokens), inf if cost > self.burst else wait, full_after


# Times are whole 64ths of a second and periods up to 10 s. So tokens are whole 640ths, or whole by
# much more than the thousandth that the limiter forgives: the model and it cannot differ by it.
LIMITS = st.tuples(st.integers(1, 50), st.integers(1, 10), st.integers(1, 20))
PAUSES = st.one_of(st.just(0), st.integers(0, 64), st.integers(0, 6400))
STARTS = st.sampled_from([0.0, 1.0, NOW, float(1 << 23)])
REQUESTS = st.lists(
    st.tuples(PAUSES, st.sampled_from([b"a", "b", (b"a", "b")]), st.sampled_from([1, 1, 1, 2, 5])),
    max_size=60,
)


def left(limiter: Limiter, key: Key, now: float) -> int:
    return limiter.would(key, now).remaining


def exhaust(limiter: Limiter, key: Key, now: float) -> int:
    """Takes all there is; how many requests that was."""
    count = 0
    while not limiter.take(key, now).retry_after:
        count += 1
    return count


@given(LIMITS, STARTS, REQUESTS)
def test_decides_like_a_token_bucket_of_each_key_and_tells_what_is_left(
    limit: tuple[int, int, int], now: float, requests: list[tuple[int, Key, int]]
) -> None:
    limiter = Limiter(*limit)
    buckets: dict[Key, Bucket] = {}
    for pause, key, cost in requests:
        now += pause / 64
        bucket = buckets.setdefault(key, Bucket(*limit))
        allowed, remaining, wait, full_after = bucket.take(now, cost)
        outcome = limiter.take(key, now, cost)
        assert (outcome.retry_after == 0.0) == allowed
        assert outcome.remaining == remaining
        assert outcome.retry_after == pytest.approx(wait, abs=1e-6)
        assert outcome.full_after == pytest.approx(full_after, abs=1e-6)


@given(LIMITS, STARTS, REQUESTS)
def test_who_waits_as_long_as_told_is_let_through_and_who_comes_sooner_is_not(
    limit: tuple[int, int, int], now: float, requests: list[tuple[int, Key, int]]
) -> None:
    limiter = Limiter(*limit)
    interval = limit[1] / limit[0]
    for pause, key, cost in requests:
        now += pause / 64
        wait = limiter.take(key, now, cost).retry_after
        if 0.0 < wait < inf:
            assert limiter.would(key, now + wait, cost).retry_after == 0.0
            assert limiter.would(key, now + wait - 0.01 * interval, cost).retry_after


@given(LIMITS, STARTS, REQUESTS)
def test_the_window_is_one_in_which_what_is_left_keeps_the_rate(
    limit: tuple[int, int, int], now: float, requests: list[tuple[int, Key, int]]
) -> None:
    limiter = Limiter(*limit)
    rate = limit[0] / limit[1]
    for pause, key, cost in requests:
        now += pause / 64
        outcome = limiter.take(key, now, cost)
        if 0.0 < outcome.retry_after < inf:
            assert outcome.window == outcome.retry_after
        elif outcome.remaining:
            assert outcome.remaining / outcome.window == pytest.approx(rate)
        else:
            wait = limiter.would(key, now).retry_after
            assert outcome.window == pytest.approx(wait, abs=1e-6)


@given(LIMITS, STARTS, REQUESTS)
def test_a_look_ahead_says_what_taking_would_and_takes_nothing(
    limit: tuple[int, int, int], now: float, requests: list[tuple[int, Key, int]]
) -> None:
    limiter = Limiter(*limit)
    for pause, key, cost in requests:
        now += pause / 64
        looked = limiter.would(key, now, cost)
        assert limiter.would(key, now, cost) == looked
        taken = limiter.take(key, now, cost)
        assert taken.retry_after == looked.retry_after
        assert taken.remaining == looked.remaining - (0 if looked.retry_after else cost)


def test_a_refused_request_takes_nothing() -> None:
    limiter = Limiter(1, 1, 5)
    exhaust(limiter, "k", NOW)
    for _ in range(100):
        assert limiter.take("k", NOW).retry_after == 1.0
    assert limiter.take("k", NOW + 1.0).retry_after == 0.0


def test_what_costs_more_than_the_burst_is_never_let_through_and_takes_nothing() -> None:
    limiter = Limiter(100, 1, 5)
    outcome = limiter.take("k", NOW, 6)
    assert outcome.retry_after == inf
    assert outcome.remaining == 5
    assert limiter.take("k", NOW, 5) == Outcome(0.0, 0, pytest.approx(0.01), pytest.approx(0.05))


@pytest.mark.parametrize("start", [0.0, 1e6, 3e7])
@pytest.mark.parametrize("asked", [5_500, 12_000])
def test_a_minute_at_5000_a_second_is_right_within_one_percent(start: float, asked: int) -> None:
    limiter = Limiter(5000, 1, 50)
    allowed = sum(
        not limiter.take("k", start + number / asked).retry_after for number in range(60 * asked)
    )
    assert allowed == pytest.approx(300_000, rel=0.01)


@pytest.mark.parametrize("start", [0.0, 3e7])
def test_the_rate_does_not_drift(start: float) -> None:
    """A million requests, each as soon as it may: they take a million times the interval."""
    limiter = Limiter(5000, 1, 1)
    now = start
    for _ in range(500_000):
        assert limiter.take("k", now).retry_after == 0.0
        now += limiter.take("k", now).retry_after
    assert now - start == pytest.approx(100.0, rel=1e-4)


def test_several_limits_let_through_what_the_tightest_does() -> None:
    second, minute = Limiter(2, 1, 2), Limiter(3, 60, 3)
    limits: list[tuple[Limiter, Key, int]] = [(second, "k", 1), (minute, "k", 1)]
    allowed = [
        not any(one.retry_after for one in take_all(limits, NOW + number * 0.25))
        for number in range(12)
    ]
    assert allowed == [True, True, True, *[False] * 9]


TWO_LIMITS = st.lists(LIMITS, min_size=1, max_size=4)


@given(TWO_LIMITS, STARTS, REQUESTS)
def test_several_limits_take_from_all_or_from_none(
    each: list[tuple[int, int, int]], now: float, requests: list[tuple[int, Key, int]]
) -> None:
    limiters = [Limiter(*limit) for limit in each]
    buckets: dict[Key, list[Bucket]] = {}
    for pause, key, cost in requests:
        now += pause / 64
        models = buckets.setdefault(key, [Bucket(*limit) for limit in each])
        for model in models:
            model.refill(now)
        allowed = all(cost <= model.tokens for model in models)
        if allowed:
            for model in models:
                model.tokens -= cost
        outcomes = take_all([(limiter, key, cost) for limiter in limiters], now)
        assert (not any(one.retry_after for one in outcomes)) == allowed
        for limiter, model, outcome in zip(limiters, models, outcomes, strict=True):
            assert outcome.remaining == floor(model.tokens)
            assert left(limiter, key, now) == floor(model.tokens)
        wait = max(one.retry_after for one in outcomes)
        if 0.0 < wait < inf:
            assert not any(one.would(key, now + wait, cost).retry_after for one in limiters)


@pytest.mark.parametrize("gateways", [2, 3, 5])
def test_a_key_keeps_its_share_when_the_limit_is_divided_among_more_gateways(
    gateways: int,
) -> None:
    limiter = Limiter(60, 1, 60)
    exhaust(limiter, "empty", NOW)
    for _ in range(30):
        limiter.take("half", NOW)
    limiter.change(60 / gateways, 1, 60 / gateways)
    assert left(limiter, "empty", NOW) == 0
    assert left(limiter, "half", NOW) == 30 // gateways
    assert left(limiter, "new", NOW) == 60 // gateways
    assert left(limiter, "empty", NOW + 0.5) == 30 // gateways
    assert exhaust(limiter, "empty", NOW + 100.0) == 60 // gateways
    limiter.change(60, 1, 60)
    assert left(limiter, "empty", NOW + 100.5) == 30


def test_a_changed_rate_holds_from_then_on() -> None:
    limiter = Limiter(1, 1, 1)
    limiter.take("k", NOW)
    limiter.change(100, 1, 1)
    assert limiter.take("k", NOW + 1.0).retry_after == 0.0
    assert limiter.take("k", NOW + 1.0).retry_after == pytest.approx(0.01)


def test_a_limit_that_shrinks_below_what_was_used_leaves_nothing_and_not_less() -> None:
    limiter = Limiter(1, 1, 100)
    exhaust(limiter, "k", NOW)
    limiter.change(1, 1, 10)
    outcome = limiter.take("k", NOW)
    assert outcome.remaining == 0
    assert outcome.retry_after == pytest.approx(91.0)


@pytest.mark.parametrize(
    ("requests", "per", "burst"),
    [
        *[(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, 0.5), (inf, 1, 1), (1, inf, 1), (1, 1, inf)],
        *[(nan, 1, 1), (1, nan, 1), (1, 1, nan), (1e-300, 1e300, 1), (1e300, 1e-300, 1)],
    ],
)
def test_what_cannot_be_a_limit_is_refused_and_changes_nothing(
    requests: float, per: float, burst: float
) -> None:
    with pytest.raises(ValueError, match="not a limit"):
        Limiter(requests, per, burst)
    limiter = Limiter(1, 1, 3)
    with pytest.raises(ValueError, match="not a limit"):
        limiter.change(requests, per, burst)
    assert exhaust(limiter, "k", NOW) == 3


@pytest.mark.parametrize("slots", [0, 8, START - 1, 100, -64])
def test_a_table_has_a_power_of_two_of_slots(slots: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Limiter(1, 1, 1, slots)


def test_ten_clients_cost_kilobytes() -> None:
    limiter = Limiter(1, 60, 5)
    for number in range(10):
        limiter.take(b"client-%d" % number, NOW)
    assert limiter.nbytes < 4096


def test_no_key_is_forgotten_while_the_table_may_grow() -> None:
    limiter = Limiter(1, 3600, 2)
    keys = [b"%d" % number for number in range(20_000)]
    for key in keys:
        exhaust(limiter, key, NOW)
    assert not any(left(limiter, key, NOW) for key in keys)


def test_the_table_does_not_grow_for_keys_that_are_full_again() -> None:
    limiter = Limiter(1, 1, 1)
    for number in range(100_000):  # a hundred at a time
        limiter.take(b"%d" % number, NOW + number / 100)
    assert limiter.nbytes < 128 * 1024


def test_a_million_keys_cost_less_than_64_mib_and_all_but_a_few_are_known() -> None:
    limiter = Limiter(1, 3600, 10)
    exhaust(limiter, "hot", NOW)
    keys = [b"%d" % number for number in range(1_000_000)]
    for key in keys:
        limiter.take(key, NOW)
    assert limiter.nbytes < 64 * MIB
    assert limiter.take("hot", NOW).retry_after
    known = sum(left(limiter, key, NOW) == 9 for key in keys[::10])
    assert known > 0.98 * len(keys[::10])


def test_a_hot_key_stays_limited_while_a_million_others_push_each_other_out() -> None:
    limiter = Limiter(1, 3600, 10, slots=1 << 12)
    exhaust(limiter, "hot", NOW)
    for number in range(1_000_000):
        limiter.take(b"%d" % number, NOW)
    assert limiter.take("hot", NOW + 1.0).retry_after == pytest.approx(3599.0)


def test_a_table_at_its_bound_forgets_the_keys_that_have_used_least() -> None:
    limiter = Limiter(1, 3600, 10, slots=START)
    heavy = [b"heavy-%d" % number for number in range(START // WAYS // 2)]
    for key in heavy:
        exhaust(limiter, key, NOW)
    for number in range(10_000):
        limiter.take(b"light-%d" % number, NOW)
    assert not any(left(limiter, key, NOW) for key in heavy)


def test_the_greatest_table_is_never_exceeded() -> None:
    limiter = Limiter(1, 3600, 1, slots=256)
    for number in range(10_000):
        limiter.take(b"%d" % number, NOW)
    assert limiter.nbytes < 256 * 16 * 1.2
    assert SLOTS * 16 * 1.2 < 64 * MIB
