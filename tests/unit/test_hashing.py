"""Consistent hashing: the same key, the same endpoint; and how few keys move."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec, PoolConfig, ServiceConfig
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.hashing import Ring, make_hash_key
from siger_gateway.upstream.slow_start import COLD, WARM

KEYS = [b"user-%d" % number for number in range(500)]


async def endpoints(weights: Sequence[int]) -> list[Endpoint]:
    return [
        Endpoint(EndpointSpec(f"10.0.0.{number}:80", weight), PoolConfig())
        for number, weight in enumerate(weights)
    ]


def owners(ring: Ring, keys: Sequence[bytes] = KEYS) -> list[Endpoint | None]:
    return [ring.pick(key, ()) for key in keys]


def addresses(ring: Ring) -> list[str]:
    return [one.address if one is not None else "" for one in owners(ring)]


WEIGHTS = st.lists(st.integers(1, 4), min_size=2, max_size=12)


@settings(max_examples=50)
@given(WEIGHTS, st.randoms(use_true_random=False))
async def test_the_order_of_the_table_does_not_matter_nor_which_gateway_it_is(
    weights: list[int], source: random.Random
) -> None:
    ring = Ring(await endpoints(weights))
    other = await endpoints(weights)  # those of another gateway
    source.shuffle(other)
    assert addresses(Ring(other)) == addresses(ring)


async def test_keys_belong_to_the_same_endpoints_in_every_version() -> None:
    """A gateway that is being replaced agrees with its successor: places are never computed in
    another way."""
    ring = Ring(await endpoints([1, 1, 2, 1]))
    found = [one.address for key in KEYS[:12] if (one := ring.pick(key, ()))]
    assert [int(address[7]) for address in found] == EXPECTED


EXPECTED = [1, 3, 1, 3, 0, 3, 3, 2, 3, 1, 2, 2]


@settings(max_examples=50)
@given(WEIGHTS, st.integers(0, 11))
async def test_only_the_keys_of_an_endpoint_that_leaves_move(
    weights: list[int], number: int
) -> None:
    table = await endpoints([4, *weights])
    leaving = table[1 + number % len(weights)]
    before = owners(Ring(table))
    after = owners(Ring([one for one in table if one is not leaving]))
    for old, new in zip(before, after, strict=True):
        assert new is not None
        assert new is old or old is leaving


@settings(max_examples=50)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=12), st.integers(1, 4))
async def test_keys_move_only_to_an_endpoint_that_joins(weights: list[int], weight: int) -> None:
    table = await endpoints([3, *weights, weight])  # 4 is the heaviest, in the same power of two
    joining = table[-1]
    before = owners(Ring(table[:-1]))
    after = owners(Ring(table))
    moved = [new for old, new in zip(before, after, strict=True) if new is not old]
    assert set(moved) <= {joining}
    # About its share, and not much more: 6 % standard deviation for a weight of 4, 12 % for 1.
    due = weight / (3 + sum(weights) + weight)
    assert len(moved) / len(KEYS) < 1.6 * due + 0.03


@settings(max_examples=50)
@given(WEIGHTS, st.integers(0, 11), st.integers(1, 4))
async def test_a_weight_that_changes_moves_keys_of_that_endpoint_only(
    weights: list[int], number: int, weight: int
) -> None:
    table = await endpoints([4, *weights])
    changed = table[1 + number % len(weights)]
    old_weight = changed.weight
    before = owners(Ring(table))
    changed.weigh(weight, WARM)
    after = owners(Ring(table))
    for old, new in zip(before, after, strict=True):
        if new is not old:
            assert (new if weight > old_weight else old) is changed


@pytest.mark.parametrize(
    "weights", [[1] * 10, [100] * 10, [5, 1, 1, 1], [1000, 500, 250], [64, *[2] * 32], [3, 2, 1]]
)
async def test_keys_are_spread_by_weight(weights: list[int]) -> None:
    table = await endpoints(weights)
    keys = [b"%d" % number for number in range(20_000)]
    seen = Counter(owners(Ring(table), keys))
    for weight in set(weights):
        found = sum(seen[one] for one in table if one.weight == weight) / len(keys)
        due = weight * weights.count(weight) / sum(weights)
        assert abs(found / due - 1) < 0.25
    if weights == [1] * 10:
        assert max(seen.values()) < 1.25 * 2000
        assert min(seen.values()) > 0.75 * 2000


@settings(max_examples=50)
@given(WEIGHTS, st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
async def test_a_retry_goes_where_the_key_would_belong_without_those_that_failed(
    weights: list[int], failed_numbers: set[int], down_numbers: set[int]
) -> None:
    table = await endpoints([4, *weights])
    failed = [table[1 + number] for number in failed_numbers if number < len(weights)]
    down = [table[1 + number] for number in down_numbers if number < len(weights)]
    ring = Ring(table)
    ring.usable = frozenset(table) - set(down)
    without = Ring([one for one in table if one not in failed and one not in down])
    for key in KEYS[:50]:
        assert ring.pick(key, failed) is without.pick(key, ())


@pytest.mark.parametrize("weights", [(10, 1, 1), (1000, 1, 1), (100, 10, 10, 10)])
async def test_without_the_heaviest_endpoint_every_key_has_another_one_for_itself(
    weights: tuple[int, ...],
) -> None:
    table = await endpoints(weights)
    ring = Ring(table)
    before = owners(ring)
    ring.usable = frozenset(table[1:])
    found = owners(ring)
    assert all(was is now for was, now in zip(before, found, strict=True) if was is not table[0])
    shares = [found.count(one) / len(KEYS) for one in table[1:]]
    assert min(shares) > 0.5 / len(shares)


async def test_there_is_no_endpoint_when_all_were_tried_or_none_is_there() -> None:
    table = await endpoints([1, 1])
    ring = Ring(table)
    assert ring.pick(b"key", table) is None
    ring.usable = frozenset()
    assert ring.pick(b"key", ()) is None
    assert Ring(()).pick(b"key", ()) is None


async def test_keys_move_to_a_warming_endpoint_little_by_little_and_once() -> None:
    table = await endpoints([1] * 4)
    newcomer = table[-1]
    ring = Ring(table)
    cold = owners(Ring(table[:-1]))
    had: set[bytes] = set()
    shares = []
    for warmth in range(COLD, WARM + 1):
        newcomer.weigh(1, warmth)
        now = owners(ring)
        has = {key for key, one in zip(KEYS, now, strict=True) if one is newcomer}
        assert had <= has
        for key, one, other in zip(KEYS, now, cold, strict=True):
            assert key in has or one is other
        had = has
        shares.append(len(has) / len(KEYS))
    assert 0 < shares[0] < 0.06  # a tenth of a quarter, and the sample's error
    assert 0.2 < shares[-1] < 0.3


# The key of a request.


def request(*headers: tuple[bytes, bytes], target: bytes = b"/a/b?x=1") -> Request:
    fields: Headers = list(headers)
    return Request(b"GET", target, fields, True)


@pytest.mark.parametrize(
    ("hash_on", "one", "key"),
    [
        ("client_ip", request(), b"9.9.9.9"),
        ("path", request(), b"/a/b"),
        ("header:x-user", request((b"x-user", b"7")), b"7"),
        ("header:x-user", request((b"x-user", b"")), None),
        ("header:x-user", request(), None),
        ("cookie:sid", request((b"cookie", b"a=1; sid=7; b=2")), b"7"),
        ("cookie:sid", request((b"cookie", b"sid=7")), b"7"),
        ("cookie:sid", request((b"cookie", b"a=1"), (b"cookie", b"sid=7")), b"7"),
        ("cookie:sid", request((b"cookie", b"sid=a=b;")), b"a=b"),
        ("cookie:sid", request((b"cookie", b"sid=")), None),
        ("cookie:sid", request((b"cookie", b"xsid=1; Sid=2; sid")), None),
        ("cookie:sid", request(), None),
    ],
)
def test_the_key_is_what_the_configuration_names(
    hash_on: str, one: Request, key: bytes | None
) -> None:
    assert make_hash_key(hash_on)(one, "9.9.9.9") == key


@given(st.binary(max_size=200))
def test_any_cookie_field_can_be_read(value: bytes) -> None:
    make_hash_key("cookie:sid")(request((b"cookie", value)), "")


# In a cluster.


def cluster(*specs: EndpointSpec, hash_on: str = "header:x-user") -> Cluster:
    config = ServiceConfig(endpoints=specs, balance="consistent_hash", hash_on=hash_on)
    return Cluster("s", config, ServiceStats())


SPECS = tuple(EndpointSpec(f"10.0.0.{number}:80") for number in range(5))


async def test_a_request_without_the_key_goes_to_the_less_loaded_of_two() -> None:
    table = cluster(*SPECS)
    busy, *others = table.endpoints
    busy.active = 5
    random.seed(1)
    assert {table.pick(request(), "", ()) for _ in range(200)} == set(others)
    assert table.pick(request(), "", table.endpoints) is None


async def test_keys_of_an_endpoint_that_is_down_come_back_with_it() -> None:
    table = cluster(*SPECS)
    requests = [request((b"x-user", key)) for key in KEYS[:100]]
    before = [table.pick(one, "", ()) for one in requests]
    down = table.endpoints[2]
    down.healthy = False
    table.rebalance()
    while_down = [table.pick(one, "", ()) for one in requests]
    assert down in before
    assert down not in while_down
    assert all(a is b for a, b in zip(before, while_down, strict=True) if a is not down)
    down.healthy = True
    table.rebalance()
    assert [table.pick(one, "", ()) for one in requests] == before


async def test_keys_keep_their_endpoint_when_all_seem_to_be_down() -> None:
    table = cluster(*SPECS)
    requests = [request((b"x-user", key)) for key in KEYS[:50]]
    before = [table.pick(one, "", ()) for one in requests]
    for one in table.endpoints:
        one.ejected = True
    table.rebalance()
    assert [table.pick(one, "", ()) for one in requests] == before


async def test_the_same_table_again_keeps_the_ring_and_another_makes_a_new_one() -> None:
    table = cluster(*SPECS)
    requests = [request((b"x-user", key)) for key in KEYS[:50]]
    before = [table.pick(one, "", ()) for one in requests]
    ring = table._ring
    table.update(reversed(SPECS))
    assert table._ring is ring
    table.update(SPECS[1:])
    left = [table.pick(one, "", ()) for one in requests]
    assert set(left) == set(table.endpoints)
    assert all(a is b for a, b in zip(before, left, strict=True) if b is a or a in table.endpoints)


async def test_the_client_address_is_the_key_when_it_is_hashed_on() -> None:
    table = cluster(*SPECS, hash_on="client_ip")
    clients = [f"9.9.9.{number}" for number in range(100)]
    first = [table.pick(request(), client, ()) for client in clients]
    assert set(first) == set(table.endpoints)
    assert [table.pick(request(), client, ()) for client in clients] == first
