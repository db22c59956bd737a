"""Which endpoint is next, against models."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec, PoolConfig
from siger_gateway.upstream.balancer import (
    MAX_SCHEDULE,
    MOST_COMPARED,
    POLICIES,
    LeastConnections,
    Random,
    RoundRobin,
    Urn,
    smooth_schedule,
)
from siger_gateway.upstream.cluster import Endpoint


async def endpoints(weights: Sequence[int]) -> list[Endpoint]:
    """A coroutine, for pools belong to an event loop."""
    return [
        Endpoint(EndpointSpec(f"127.0.0.1:{9000 + number}", weight), PoolConfig())
        for number, weight in enumerate(weights)
    ]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
async def test_any_round_of_turns_holds_every_endpoint_by_its_weight(weights: list[int]) -> None:
    table = await endpoints(weights)
    balancer = RoundRobin(table)
    total = len(smooth_schedule(table))
    turns = [balancer.pick(()) for _ in range(2 * total + 1)]
    for start in (0, total // 2, total):
        shares = Counter(turns[start : start + total])
        for endpoint in table:
            assert shares[endpoint] * sum(weights) == endpoint.weight * total
    assert turns[:total] == turns[total : 2 * total]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
async def test_turns_are_spread_and_not_bunched(weights: list[int]) -> None:
    """After any number of turns, everybody is less than one turn off the exact share."""
    table = await endpoints(weights)
    schedule = smooth_schedule(table)
    seen: Counter[Endpoint] = Counter()
    for turn, endpoint in enumerate(schedule, 1):
        seen[endpoint] += 1
        for one in table:
            due = turn * one.weight / sum(weights)
            assert abs(seen[one] - due) < len(table)


async def test_equal_weights_take_turns_one_by_one() -> None:
    table = await endpoints([7, 7, 7])
    assert len(smooth_schedule(table)) == 3
    balancer = RoundRobin(table)
    for _ in range(5):
        assert {balancer.pick(()) for _ in range(3)} == set(table)


async def test_gateways_that_start_together_do_not_march_together() -> None:
    table = await endpoints([1] * 50)
    random.seed(1)
    assert len({RoundRobin(table).pick(()) for _ in range(50)}) > 10
    random.seed(1)
    assert len({LeastConnections(table).pick(()) for _ in range(50)}) > 10


@pytest.mark.parametrize(
    "weights", [[1000, 999] * 20, [1] * 20_000, [1000, *[1] * 11_000], [1000, 1, 997, 3] * 400]
)
async def test_a_schedule_stays_small_and_forgets_nobody(weights: list[int]) -> None:
    table = await endpoints(weights)
    schedule = smooth_schedule(table)
    assert len(schedule) <= MAX_SCHEDULE + len(table)
    assert set(schedule) == set(table)


async def test_shares_survive_the_rounding_of_large_weights() -> None:
    table = await endpoints([1000, 500] * 50 + [999])
    seen = Counter(smooth_schedule(table))
    heavy, light = seen[table[0]], seen[table[1]]
    assert abs(heavy / light - 2) < 0.05


@pytest.mark.parametrize("policy", POLICIES)
async def test_no_endpoints_no_pick(policy: str) -> None:
    balancer = POLICIES[policy]([])
    (endpoint,) = await endpoints([1])
    assert balancer.pick(()) is None
    assert balancer.pick((endpoint,)) is None


@pytest.mark.parametrize("policy", POLICIES)
async def test_any_endpoint_that_was_not_tried_may_come_and_no_other(policy: str) -> None:
    table = await endpoints([5, 1, 1, 1])
    stranger = (await endpoints([1]))[0]  # tried, and gone from the table since
    random.seed(1)
    for tried in ((), (table[0],), (table[0], table[2]), (stranger,), (stranger, table[1])):
        balancer = POLICIES[policy](table)
        picked = {balancer.pick(tried) for _ in range(200)}
        assert picked == set(table) - set(tried)
    assert POLICIES[policy](table).pick(table) is None


async def test_random_follows_the_weights_also_among_the_rest() -> None:
    table = await endpoints([6, 3, 1])
    random.seed(1)
    balancer = Random(table)
    seen = Counter(balancer.pick(()) for _ in range(10_000))
    assert [round(seen[one] / 1000) for one in table] == [6, 3, 1]
    rest = Counter(balancer.pick(table[:1]) for _ in range(10_000))
    assert [round(rest[one] / 2500) for one in table] == [0, 3, 1]


LOADS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=6)


@settings(max_examples=200)
@given(LOADS, st.sets(st.integers(0, 5)))
async def test_least_connections_is_the_least_loaded_of_those_not_tried(
    loads: list[tuple[int, int]], tried_numbers: set[int]
) -> None:
    table = await endpoints([weight for _, weight in loads])
    for endpoint, (active, _) in zip(table, loads, strict=True):
        endpoint.active = active
    tried = [table[number] for number in tried_numbers if number < len(table)]
    left = [endpoint for endpoint in table if endpoint not in tried]
    least = min((one.active / one.weight for one in left), default=None)
    fitting = {one for one in left if one.active / one.weight == least}
    balancer = LeastConnections(table)
    # Ties go round by weight: one round finds every one of them.
    picked = {balancer.pick(tried) for _ in range(sum(one.weight for one in table))}
    assert picked == (fitting or {None})


async def test_least_connections_takes_the_idle_in_turn_by_their_weight() -> None:
    table = await endpoints([5, 3, 1])
    balancer = LeastConnections(table)
    seen = Counter(balancer.pick(()) for _ in range(90))
    assert [seen[one] for one in table] == [50, 30, 10]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(1, 60))
async def test_least_connections_fills_endpoints_by_their_weight(
    weights: list[int], exchanges: int
) -> None:
    table = await endpoints(weights)
    balancer = LeastConnections(table)
    for _ in range(exchanges):
        picked = balancer.pick(())
        assert picked is not None
        picked.active += 1
    for one in table:
        due = exchanges * one.weight / sum(weights)
        assert abs(one.active - due) <= max(weights)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=6), st.randoms(use_true_random=False))
async def test_two_that_are_drawn_are_two(weights: list[int], source: random.Random) -> None:
    random.seed(source.random())
    urn = Urn(await endpoints(weights))
    for _ in range(50):
        first, second = urn.draw_two()
        assert first is not second


async def test_two_are_drawn_by_weight_and_the_second_from_what_is_left() -> None:
    table = await endpoints([6, 3, 1])
    urn = Urn(table)
    random.seed(1)
    seen = Counter(urn.draw_two() for _ in range(30_000))
    for (a, b), due in {  # P(a) * P(b without a)
        (0, 1): 0.6 * 3 / 4,
        (0, 2): 0.6 * 1 / 4,
        (1, 0): 0.3 * 6 / 7,
        (1, 2): 0.3 * 1 / 7,
        (2, 0): 0.1 * 6 / 9,
        (2, 1): 0.1 * 3 / 9,
    }.items():
        assert abs(seen[table[a], table[b]] / 30_000 - due) < 0.02


async def test_idle_endpoints_are_used_by_their_weight_with_two_choices() -> None:
    table = await endpoints([6, 3, 1])
    balancer = POLICIES["p2c"](table)
    random.seed(1)
    seen = Counter(balancer.pick(()) for _ in range(10_000))
    assert [round(seen[one] / 1000) for one in table] == [6, 3, 1]


@settings(max_examples=50)
@given(
    st.sampled_from(["least_connections", "p2c", "ewma"]),
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
)
async def test_policies_by_load_fill_endpoints_by_their_weight(
    policy: str, weights: list[int]
) -> None:
    table = await endpoints(weights)
    for one in table:  # all answer equally fast
        one.latency, one.latency_at = 0.01, monotonic()
    balancer = POLICIES[policy](table)
    random.seed(1)
    exchanges = 100 * len(table)
    for _ in range(exchanges):
        picked = balancer.pick(())
        assert picked is not None
        picked.active += 1
    for one in table:
        due = exchanges * one.weight / sum(weights)
        assert abs(one.active - due) <= 0.15 * due + 4


@pytest.mark.parametrize("policy", ["p2c", "ewma", "least_connections"])
async def test_of_two_endpoints_the_one_that_hangs_gets_little(policy: str) -> None:
    stuck, free = await endpoints([1, 1])
    for one in (stuck, free):
        one.latency, one.latency_at = 0.01, monotonic()
    balancer = POLICIES[policy]([stuck, free])
    for _ in range(100):
        picked = balancer.pick(())
        if picked is stuck:
            stuck.active += 1  # and never answers; free always does
    assert stuck.active <= 1


@pytest.mark.parametrize("policy", POLICIES)
async def test_an_endpoint_that_is_warming_up_gets_less_than_its_share(policy: str) -> None:
    table = await endpoints([2, 2, 2, 2])
    newcomer = table[-1]
    newcomer.weigh(2, 2)  # a tenth
    for one in table:
        one.latency, one.latency_at = 0.01, monotonic()
    balancer = POLICIES[policy](table)
    random.seed(1)
    seen = Counter(balancer.pick(()) for _ in range(3100))
    assert seen[newcomer] < 150  # its share would be 775, a tenth of that of one of the others 100
    if policy != "ewma":  # where the fast and free take all
        assert seen[newcomer] > 50


async def test_a_selection_compares_a_bounded_number_of_endpoints(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = await endpoints([1] * 1000)
    monkeypatch.setattr(random, "randrange", lambda end: 100)  # where it begins to look
    selection = LeastConnections(table)
    last, beyond = table[100 + MOST_COMPARED - 1], table[100 + MOST_COMPARED]
    for tried in ((), table[100:105]):
        for one in table:
            one.active = 2  # all are busy: nothing ends the search early
        beyond.active = 0
        assert selection.pick(tried) not in (None, beyond, *tried)
        # Of those that are looked at, it is still the least busy one.
        last.active = 1
        assert selection.pick(tried) is last


async def test_all_but_one_of_a_long_table_have_been_tried() -> None:
    table = await endpoints([1] * 200)
    for one in table:
        one.active = 1
    assert LeastConnections(table).pick(table[:77] + table[78:]) is table[77]
