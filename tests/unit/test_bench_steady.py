"""Load at a constant rate: what is due when, and what is said of the times."""

from __future__ import annotations

import pytest

from benchmarks.steady import percentile, shares


@pytest.mark.parametrize("rate", [1, 999, 1000, 1001, 12_345])
def test_the_rate_is_kept_after_every_tick(rate: int) -> None:
    due = shares(rate, 2000)
    assert sum(due) == 2 * rate
    assert max(due) - min(due) <= 1


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(number) for number in range(1, 1001)]
    assert percentile(values, 0.5) == 501.0
    assert percentile(values, 0.999) == 1000.0
    assert percentile([3.0], 0.5) == 3.0
    assert percentile([], 0.5) == 0.0
