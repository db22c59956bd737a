"""``grpc-timeout``: what is read, what is written, what is left of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.deadline import LONGEST, NANOSECONDS, counted_down, parse, write


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [
        (b"1n", 1),
        (b"10u", 10_000),
        (b"250m", 250_000_000),
        (b"3S", 3_000_000_000),
        (b"2M", 120_000_000_000),
        (b"99999999H", LONGEST),
        (b"00000001S", 1_000_000_000),
        (b"0m", 0),
    ],
)
def test_each_unit_is_read(value: bytes, nanoseconds: int) -> None:
    assert parse(value) == nanoseconds


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"S", b"1", b"1s", b"1h", b"-1S", b"+1S", b"1.5S", b" 1S", b"1S ", b"1 S", b"1_0S"),
        *(b"123456789n", b"1SS", "\N{ARABIC-INDIC DIGIT ONE}S".encode()),
    ],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        parse(value)
    assert caught.value.reason == "bad_request"
    assert "grpc-timeout" in caught.value.detail


@given(st.integers(0, 10**8 - 1), st.sampled_from(list(NANOSECONDS)))
def test_what_a_client_writes_means_the_same_when_written_again(digits: int, unit: bytes) -> None:
    nanoseconds = parse(b"%d%b" % (digits, unit))
    assert parse(write(nanoseconds)) == nanoseconds


@given(st.integers(0, LONGEST))
def test_writing_rounds_up_by_less_than_a_ten_thousandth(nanoseconds: int) -> None:
    value = write(nanoseconds)
    assert len(value) <= 9
    assert nanoseconds <= parse(value) <= nanoseconds + nanoseconds // 10_000


def test_more_than_can_be_written_is_cut() -> None:
    assert write(LONGEST + 1) == b"99999999H"


def test_the_time_spent_is_taken_off() -> None:
    assert counted_down(b"1S", 0.25) == b"750000u"
    assert counted_down(b"1S", 0.0) == b"1000000u"


@pytest.mark.parametrize(("value", "elapsed"), [(b"1S", 1.0), (b"1S", 7.5), (b"0n", 0.0)])
def test_nothing_is_left_once_the_deadline_has_come(value: bytes, elapsed: float) -> None:
    assert counted_down(value, elapsed) is None


@given(st.integers(1, 10**8 - 1), st.sampled_from([b"m", b"S"]), st.floats(0, 1e5))
def test_counting_down_never_adds_time(digits: int, unit: bytes, elapsed: float) -> None:
    value = b"%d%b" % (digits, unit)
    left = counted_down(value, elapsed)
    spent = int(elapsed * 1e9)
    if left is None:
        assert parse(value) <= spent
    else:
        assert parse(value) - spent <= parse(left) <= parse(value)
