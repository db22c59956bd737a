"""The fields that tell a client about its limits."""

from __future__ import annotations

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.filters.gcra import Limiter, Outcome, take_all
from siger_gateway.filters.rate_limit_fields import (
    Policy,
    limit_field,
    policy_field,
    retry_after,
)

MINUTE = Policy("minute", 100, 60, 100)
DAY = Policy("day", 5000, 86400, 50)


def outcome(remaining: int, window: float, wait: float = 0.0) -> Outcome:
    return Outcome(wait, remaining, window, 0.0)


def test_a_policy_tells_the_rate() -> None:
    assert policy_field([MINUTE]) == (b"ratelimit-policy", b'"minute";q=100;w=60')


def test_a_burst_that_is_not_the_quota_has_a_parameter_of_its_own() -> None:
    assert policy_field([DAY])[1] == b'"day";q=5000;w=86400;siger-burst=50'


def test_several_policies_are_in_one_field() -> None:
    assert policy_field([MINUTE, DAY])[1] == MINUTE.item + b", " + DAY.item


def test_what_is_left_and_for_how_long_it_should_do() -> None:
    assert limit_field([(MINUTE, outcome(50, 30.0))]) == (b"ratelimit", b'"minute";r=50;t=30')


def test_several_limits_are_in_one_field() -> None:
    told = limit_field([(MINUTE, outcome(50, 30.0)), (DAY, outcome(49, 846.72))])
    assert told[1] == b'"minute";r=50;t=30, "day";r=49;t=847'


def test_a_refusal_tells_only_of_the_limits_that_refuse() -> None:
    told = limit_field([(MINUTE, outcome(0, 0.25, 0.25)), (DAY, outcome(49, 846.72))])
    assert told[1] == b'"minute";r=0;t=1'


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("a b", b'"a b"'),
        ('say "hi"', rb'"say \"hi\""'),
        ("back\\slash", rb'"back\\slash"'),
        ("50%d", b'"50%d"'),
    ],
)
def test_a_name_is_a_string_of_structured_fields(name: str, item: bytes) -> None:
    policy = Policy(name, 1, 1, 1)
    assert policy.item == item + b";q=1;w=1"
    assert limit_field([(policy, outcome(1, 1.0))])[1] == item + b";r=1;t=1"


@pytest.mark.parametrize("name", ["naïve", "line\nbreak", "\x7f", "\t"])
def test_a_name_that_cannot_be_in_a_field_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Policy(name, 1, 1, 1)


@pytest.mark.parametrize(
    ("requests", "per", "told"),
    [
        (10, 0.5, b"q=20;w=1"),
        (2.5, 1, b"q=2;w=1"),
        (0.1, 1, b"q=1;w=10"),
        (1 / 3, 1, b"q=1;w=3"),
        (7, 2.5, b"q=8;w=3"),
        (3, 0.1, b"q=30;w=1"),
    ],
)
def test_a_rate_is_told_in_whole_requests_and_seconds(
    requests: float, per: float, told: bytes
) -> None:
    assert Policy("x", requests, per, requests).item == b'"x";' + told


@given(st.floats(0.001, 1e6), st.floats(0.001, 1e6))
def test_no_client_is_promised_more_than_the_rate(requests: float, per: float) -> None:
    found = re.fullmatch(rb'"x";q=(\d+);w=(\d+)', Policy("x", requests, per, requests).item)
    assert found is not None
    quota, window = map(int, found.groups())
    assert quota >= 1
    assert window >= 1
    assert quota / window <= requests / per * 1.0001


@pytest.mark.parametrize(
    ("seconds", "value"),
    [(1e-9, b"1"), (0.001, b"1"), (1.0, b"1"), (1.0000000002, b"1"), (1.01, b"2"), (59.5, b"60")],
)
def test_retry_after_is_in_whole_seconds_and_never_early(seconds: float, value: bytes) -> None:
    assert retry_after([outcome(0, 1.0, seconds)]) == (b"retry-after", value)


def test_retry_after_is_when_the_last_of_the_limits_lets_through() -> None:
    outcomes = [outcome(0, 1.0, 1.0), outcome(3, 4.0), outcome(0, 9.0, 9.0)]
    assert retry_after(outcomes) == (b"retry-after", b"9")


def test_there_is_no_retry_after_where_waiting_does_not_help() -> None:
    assert retry_after([outcome(1, 1.0)]) is None
    assert retry_after([outcome(5, 1.0, inf), outcome(0, 3.0, 3.0)]) is None


def test_numbers_have_at_most_the_digits_of_an_integer() -> None:
    told = limit_field([(MINUTE, outcome(10**20, 1e20))])[1]
    assert told == b'"minute";r=999999999999999;t=999999999999999'
    assert Policy("x", 1e20, 1, 1e30).item == b'"x";q=%d;w=1;siger-burst=%d' % (
        999_999_999_999_999,
        999_999_999_999_999,
    )


def test_who_follows_the_fields_is_never_refused() -> None:
    """A client that sends all that is left at once and then waits for as long as it is told."""
    limiter, now, sent = Limiter(7, 3, 20), 1000.0, 0
    policy = Policy("x", 7, 3, 20)
    remaining = 20
    for _ in range(50):
        for _ in range(max(1, remaining)):
            taken = limiter.take("k", now)
            assert not taken.retry_after
            sent += 1
        field = limit_field([(policy, taken)])[1]
        found = re.fullmatch(rb'"x";r=(\d+);t=(\d+)', field)
        assert found is not None
        remaining = int(found[1])
        now += int(found[2])
    assert sent > 50


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 5)), max_size=40))
def test_retry_after_is_never_before_the_end_of_a_window_that_is_told(
    requests: list[tuple[int, int]],
) -> None:
    """Section 6 of the draft."""
    limiters = [Limiter(3, 2, 5), Limiter(9, 60, 9)]
    policies = [Policy("short", 3, 2, 5), Policy("long", 9, 60, 9)]
    now = 1000.0
    for pause, cost in requests:
        now += pause / 10
        outcomes = take_all([(one, "k", cost) for one in limiters], now)
        later = retry_after(outcomes)
        if later is not None:
            told = limit_field(list(zip(policies, outcomes, strict=True)))[1]
            windows = [int(one) for one in re.findall(rb"t=(\d+)", told)]
            assert windows
            assert int(later[1]) >= max(windows)
