"""What a row of health checks amounts to. The checks themselves are in the integration tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import HealthCheckConfig
from siger_gateway.upstream.health import Verdict

CONFIG = HealthCheckConfig(path="/health", healthy=2, unhealthy=3)


@pytest.mark.parametrize(
    ("checks", "healthy"),
    [
        ("p", "+"),
        ("f", "-"),  # the first decides alone
        ("fp", "--"),
        ("fpp", "--+"),
        ("fpfpp", "----+"),  # in a row
        ("pff", "+++"),
        ("pfff", "+++-"),
        ("pffpfff", "++++++-"),
        ("fppff", "--+++"),  # later ones do not decide alone
        ("fppfff", "--+++-"),
    ],
)
def test_several_checks_in_a_row_change_the_verdict_but_the_first_decides_alone(
    checks: str, healthy: str
) -> None:
    verdict = Verdict(CONFIG)
    seen = ""
    for one in checks:
        before = verdict.healthy
        assert verdict.take(passed=one == "p") is (verdict.healthy != before)
        seen += "+" if verdict.healthy else "-"
    assert seen == healthy


@given(st.lists(st.booleans(), min_size=1), st.integers(1, 4), st.integers(1, 4))
def test_checks_that_all_agree_for_long_enough_have_the_last_word(
    before: list[bool], healthy: int, unhealthy: int
) -> None:
    config = HealthCheckConfig(path="/", healthy=healthy, unhealthy=unhealthy)
    for passed, needed in ((True, healthy), (False, unhealthy)):
        verdict = Verdict(config)
        for one in before:
            verdict.take(passed=one)
        changes = [verdict.take(passed=passed) for _ in range(needed)]
        assert verdict.healthy is passed
        assert sum(changes) <= 1


def test_an_endpoint_counts_as_healthy_until_its_first_check() -> None:
    assert Verdict(CONFIG).healthy
