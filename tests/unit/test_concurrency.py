"""A limit on what is under way: who is let in, and what is forgotten."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.filters.concurrency import Concurrency


def test_as_many_as_the_limit_are_let_in_and_one_more_when_one_leaves() -> None:
    limit = Concurrency(2)
    assert [limit.enter("a"), limit.enter("a"), limit.enter("a")] == [True, True, False]
    limit.leave("a")
    assert [limit.enter("a"), limit.enter("a")] == [True, False]


def test_keys_do_not_count_for_each_other() -> None:
    limit = Concurrency(1)
    assert limit.enter("a")
    assert limit.enter("b")
    limit.leave("b")
    assert not limit.enter("a")


def test_a_refused_one_is_not_counted() -> None:
    limit = Concurrency(1)
    assert limit.enter("a")
    for _ in range(3):
        assert not limit.enter("a")
    limit.leave("a")
    assert repr(limit) == "<Concurrency 1: 0 of 0 keys>"


def test_its_state_is_seen() -> None:
    limit = Concurrency(5)
    for key in ("a", "a", "b"):
        limit.enter(key)
    assert repr(limit) == "<Concurrency 5: 3 of 2 keys>"


def test_a_key_is_forgotten_with_its_last_request() -> None:
    limit = Concurrency(2)
    for number in range(1000):
        assert limit.enter(f"192.0.2.{number}")
        limit.leave(f"192.0.2.{number}")
    assert repr(limit) == "<Concurrency 2: 0 of 0 keys>"


def test_who_was_not_let_in_cannot_leave_and_nobody_leaves_twice() -> None:
    limit = Concurrency(1)
    with pytest.raises(KeyError):
        limit.leave("a")
    limit.enter("a")
    limit.leave("a")
    with pytest.raises(KeyError):
        limit.leave("a")
    assert [limit.enter("a"), limit.enter("a")] == [True, False]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_lets_nobody_in_is_an_error(limit: int) -> None:
    with pytest.raises(ValueError, match="lets nobody in"):
        Concurrency(limit)


@given(st.integers(1, 3), st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_never_more_than_the_limit_and_never_fewer_are_let_in(
    most: int, events: list[tuple[bool, str]]
) -> None:
    limit = Concurrency(most)
    under_way: Counter[str] = Counter()
    for arrives, key in events:
        if arrives:
            assert limit.enter(key) is (under_way[key] < most)
            under_way[key] = min(most, under_way[key] + 1)
        elif under_way[key]:
            limit.leave(key)
            under_way[key] -= 1
        under_way = +under_way  # without those at zero
        total, keys = sum(under_way.values()), len(under_way)
        assert repr(limit) == f"<Concurrency {most}: {total} of {keys} keys>"
