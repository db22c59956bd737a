"""Moments are written as the logs write them, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.jobs import moments
from siger_gateway.telemetry.log import utc_timestamp


@given(st.integers(0, 4_000_000_000_000))
def test_milliseconds_are_written_as_the_logs_do_and_read_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert moments.write(seconds) == utc_timestamp(seconds)
    assert moments.read(moments.write(seconds)) == seconds


@given(st.integers(0, 4_000_000_000_000_000))
def test_microseconds_are_cut_as_the_logs_cut_them(microseconds: int) -> None:
    assert moments.write(microseconds / 1e6) == utc_timestamp(microseconds / 1e6)


@pytest.mark.parametrize(
    "value", [None, 7, "", "yesterday", "2026-13-01T00:00:00Z", "2026-01-31T12:00:00Z" + " " * 64]
)
def test_what_is_no_moment_is_none(value: object) -> None:
    assert moments.read(value) is None
