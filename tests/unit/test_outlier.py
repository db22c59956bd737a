"""What outlier detection decides, on a clock that the tests turn."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec, OutlierConfig, PoolConfig
from siger_gateway.upstream.cluster import Endpoint
from siger_gateway.upstream.outlier import OutlierDetector, lowest_rate, most_ejected

BY_ERRORS = OutlierConfig(errors=5, eject_for=30.0, max_eject_for=100.0, interval=10.0)
BY_RATE = OutlierConfig(stdev_factor=1.9, min_requests=100, min_endpoints=5, interval=10.0)


class Watched:
    """Endpoints and their detector, at second 0."""

    def __init__(self, count: int, config: OutlierConfig) -> None:
        self.endpoints = [
            Endpoint(EndpointSpec(f"e:{n}"), PoolConfig()) for n in range(1, count + 1)
        ]
        self.changes = 0
        self.now = 0.0
        self.detector = OutlierDetector("s", config, 0.0, self._on_change)
        self.detector.follow(self.endpoints)

    def _on_change(self) -> None:
        self.changes += 1

    def end(self, index: int, *statuses: int) -> None:
        for status in statuses:
            self.detector.attempt_ended(self.endpoints[index], status)

    def advance(self, seconds: float) -> None:
        """In steps, as the ticker does."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.detector.tick(self.now)

    @property
    def ejected(self) -> list[int]:
        return [index for index, one in enumerate(self.endpoints) if one.ejected]

    def ejection_lasts(self, index: int) -> float:
        """Turns the clock until it is over."""
        since = self.now
        assert self.endpoints[index].ejected
        while self.endpoints[index].ejected:
            self.advance(1.0)
        return self.now - since


@pytest.mark.parametrize("status", [0, 500, 502, 503, 504])
async def test_errors_in_a_row_eject(status: int) -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(1, *[status] * 4)
    assert watched.ejected == []
    watched.end(1, status)
    assert watched.ejected == [1]
    assert watched.changes == 1


@pytest.mark.parametrize("status", [200, 304, 404, 429, 501, 505])
async def test_a_success_ends_the_row_and_so_does_what_is_the_clients_fault(status: int) -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(1, 503, 503, 503, 503, status, 503, 503, 503, 503)
    assert watched.ejected == []


async def test_rows_of_different_endpoints_are_not_added_up() -> None:
    watched = Watched(4, BY_ERRORS)
    for _ in range(4):
        for index in range(4):
            watched.end(index, 0)
    assert watched.ejected == []


async def test_an_ejection_ends_after_its_time_with_a_clean_slate() -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(1, 0, 0, 0, 0, 0)
    watched.end(1, 0, 0, 0)  # of exchanges that were in flight
    watched.advance(29.0)
    assert watched.ejected == [1]
    watched.advance(1.0)
    assert watched.ejected == []
    watched.end(1, 0, 0, 0, 0)
    assert watched.ejected == []
    assert watched.changes == 2


async def test_ejections_in_a_row_grow_longer_up_to_the_limit() -> None:
    watched = Watched(4, BY_ERRORS)
    lengths = []
    for _ in range(5):
        watched.end(1, 0, 0, 0, 0, 0)
        lengths.append(watched.ejection_lasts(1))
    assert lengths == [30.0, 60.0, 90.0, 100.0, 100.0]


async def test_intervals_without_an_error_make_the_next_ejection_shorter_again() -> None:
    watched = Watched(4, BY_ERRORS)
    for _ in range(3):
        watched.end(1, 0, 0, 0, 0, 0)
        watched.ejection_lasts(1)
    watched.advance(20.0)  # at least one whole interval in service, at most two
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejection_lasts(1) in (60.0, 90.0)
    watched.advance(200.0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejection_lasts(1) == 30.0


async def test_ejections_past_the_limit_do_not_make_the_way_back_longer() -> None:
    watched = Watched(4, BY_ERRORS)
    for _ in range(20):
        watched.end(1, 0, 0, 0, 0, 0)
        watched.ejection_lasts(1)
    watched.advance(60.0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejection_lasts(1) == 30.0


async def test_a_single_error_an_interval_takes_nothing_back() -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(1, 0, 0, 0, 0, 0)
    watched.ejection_lasts(1)
    for _ in range(20):
        watched.end(1, 0, 200)
        watched.advance(5.0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejection_lasts(1) == 60.0


@pytest.mark.parametrize(
    ("endpoints", "share", "most"),
    [
        (0, 0.5, 0),
        (1, 1.0, 0),
        (2, 0.01, 1),
        (3, 0.5, 1),
        (4, 0.5, 2),
        (100, 0.29, 29),
        (5, 1.0, 5),
    ],
)
def test_one_of_several_may_always_be_ejected_and_never_the_only_one(
    endpoints: int, share: float, most: int
) -> None:
    assert most_ejected(endpoints, share) == most


async def test_who_could_not_be_ejected_is_when_there_is_room() -> None:
    watched = Watched(2, BY_ERRORS)
    watched.end(0, 0, 0, 0, 0, 0)
    watched.advance(10.0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejected == [0]
    watched.advance(20.0)
    assert watched.ejected == []
    watched.end(1, 0)
    assert watched.ejected == [1]


async def test_a_new_table_keeps_what_is_known_of_those_who_stay() -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(1, 0, 0, 0, 0, 0)
    watched.end(2, 0, 0, 0, 0)
    watched.endpoints.append(Endpoint(EndpointSpec("new:1"), PoolConfig()))
    watched.detector.follow(watched.endpoints)
    assert watched.ejected == [1]
    watched.end(2, 0)
    assert watched.ejected == [1, 2]
    watched.advance(30.0)
    assert watched.ejected == []


async def test_who_has_left_is_forgotten_and_makes_room() -> None:
    watched = Watched(2, BY_ERRORS)
    gone = watched.endpoints[0]
    watched.end(0, 0, 0, 0, 0, 0)
    watched.endpoints[0] = Endpoint(EndpointSpec("new:1"), PoolConfig())
    watched.detector.follow(watched.endpoints)
    watched.detector.attempt_ended(gone, 0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejected == [1]


async def test_a_table_that_shrinks_brings_back_who_would_return_next() -> None:
    watched = Watched(4, BY_ERRORS)
    watched.end(0, 0, 0, 0, 0, 0)
    watched.advance(1.0)
    watched.end(1, 0, 0, 0, 0, 0)
    assert watched.ejected == [0, 1]
    del watched.endpoints[2:]
    watched.detector.follow(watched.endpoints)
    assert watched.ejected == [1]
    del watched.endpoints[0]
    watched.detector.follow(watched.endpoints)
    assert watched.ejected == []


def requests(watched: Watched, *failed: int, of: int = 100) -> None:
    for index, errors in enumerate(failed):
        for number in range(of):
            watched.end(index, 503 if number < errors else 200)


async def test_a_success_rate_far_below_that_of_the_others_ejects() -> None:
    watched = Watched(6, BY_RATE)
    requests(watched, 2, 0, 40, 1, 3, 2)
    assert watched.ejected == []
    watched.advance(10.0)
    assert watched.ejected == [2]


async def test_rates_are_of_one_interval() -> None:
    watched = Watched(5, BY_RATE)
    for _ in range(4):
        requests(watched, 0, 0, 20, 0, 0, of=50)
        watched.advance(10.0)
    assert watched.ejected == []


@pytest.mark.parametrize(
    "failed",
    [
        (0, 0, 4, 0, 0),  # less than the least gap
        (30, 30, 30, 30, 30),  # all alike: the fault is elsewhere
        (0, 0, 50, 0),  # too few to compare
    ],
)
async def test_who_does_not_stand_out_stays(failed: tuple[int, ...]) -> None:
    watched = Watched(len(failed), BY_RATE)
    requests(watched, *failed)
    watched.advance(10.0)
    assert watched.ejected == []


async def test_the_worst_are_ejected_first() -> None:
    config = OutlierConfig(stdev_factor=0.5, min_requests=10, max_ejected=0.2)
    watched = Watched(5, config)
    requests(watched, 0, 50, 90, 0, 0)
    watched.advance(10.0)
    assert watched.ejected == [2]


def test_the_lowest_rate_is_so_many_deviations_below_the_mean() -> None:
    assert lowest_rate([1.0, 1.0, 0.5, 0.5], 2.0) == pytest.approx(0.75 - 2 * 0.25)


async def test_every_ejection_and_return_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched(2, BY_ERRORS)
    watched.end(0, *[0] * 20)
    watched.advance(30.0)
    fields = [(one.message, getattr(one, "fields")) for one in caplog.records]  # noqa: B009
    assert fields == [
        (
            "endpoint ejected",
            {"service": "s", "endpoint": "e:1", "cause": "5 errors in a row", "seconds": 30.0},
        ),
        ("endpoint returned", {"service": "s", "endpoint": "e:1"}),
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from([0, 0, 503, 200])),
        st.tuples(st.just("row"), st.integers(0, 9), st.sampled_from([0, 200])),
        st.tuples(st.just("advance"), st.integers(1, 40), st.just(0)),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("add"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(st.integers(1, 10), st.floats(0.01, 1.0), STEPS)
async def test_whatever_happens_no_more_than_the_share_is_ejected(
    count: int, share: float, steps: list[tuple[str, int, int]]
) -> None:
    config = OutlierConfig(
        errors=2, stdev_factor=1.0, min_requests=5, min_endpoints=3, max_ejected=share
    )
    watched = Watched(count, config)
    for step, number, status in steps:
        if step == "advance":
            watched.advance(number)
        elif step == "add":
            watched.endpoints.append(Endpoint(EndpointSpec("new:1"), PoolConfig()))
            watched.detector.follow(watched.endpoints)
        elif step == "remove" and number < len(watched.endpoints):
            del watched.endpoints[number]
            watched.detector.follow(watched.endpoints)
        elif number < len(watched.endpoints):
            watched.end(number, *[status] * (5 if step == "row" else 1))
        total = len(watched.endpoints)
        assert len(watched.ejected) <= max(1 if total > 1 else 0, int(total * share + 1e-9))
    watched.advance(config.max_eject_for)
    assert watched.ejected == []  # nothing is forgotten outside


@given(st.floats(0.1, 60.0), st.floats(1.0, 8.0), st.integers(1, 8))
async def test_without_good_behaviour_an_ejection_is_never_shorter_than_the_last(
    eject_for: float, factor: float, times: int
) -> None:
    longest = eject_for * factor
    watched = Watched(2, OutlierConfig(errors=1, eject_for=eject_for, max_eject_for=longest))
    last = 0.0
    for _ in range(times):
        watched.end(0, 0)
        end = watched.detector._ejected[watched.endpoints[0]]
        assert last <= end - watched.now + 1e-6
        assert eject_for - 1e-6 <= end - watched.now <= longest + 1e-6
        last = end - watched.now
        watched.now = end
        watched.detector.tick(end)
        assert watched.ejected == []
