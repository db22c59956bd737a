"""Every state that the gateway can be in, and what health says of it."""

from __future__ import annotations

import itertools
import json

import pytest

from siger_gateway.api.health import STALE_DISCOVERY, Facts, judge

SERVICES: dict[str, dict[str, int]] = {
    "none": {},
    "up": {"s": 2, "t": 1},
    "part": {"s": 2, "t": 0},
    "down": {"s": 0, "t": 0},
}
AGES = {"unused": None, "fresh": 1.0, "edge": STALE_DISCOVERY, "stale": STALE_DISCOVERY + 1}


@pytest.mark.parametrize(
    ("services", "age", "nats"),
    list(itertools.product(SERVICES, AGES, [None, True, False])),
)
def test_fail_is_when_nothing_works_and_warn_when_part_does_not(
    services: str, age: str, nats: bool | None
) -> None:
    status, checks = judge(Facts(True, False, SERVICES[services], AGES[age], nats))
    proxying = {"none": None, "up": True, "part": True, "down": False}[services]
    work = [one for one in (proxying, nats) if one is not None]
    if work and not any(work):
        expected = "fail"
    elif services in ("part", "down") or nats is False or age == "stale":
        expected = "warn"
    else:
        expected = "pass"
    assert status == expected
    assert set(checks) == (
        ({"proxy:endpoints"} if services != "none" else set())
        | ({"nats:connection"} if nats is not None else set())
        | ({"consul:age"} if age != "unused" else set())
    )
    for (check,) in checks.values():
        assert check["status"] in ("pass", "warn", "fail")
    json.dumps(checks, allow_nan=False)


@pytest.mark.parametrize(
    ("services", "status", "observed", "output"),
    [
        ("up", "pass", 3, None),
        ("part", "warn", 2, "no endpoints: t"),
        ("down", "fail", 0, "no endpoints: s, t"),
    ],
)
def test_services_without_endpoints_are_named(
    services: str, status: str, observed: int, output: str | None
) -> None:
    _, checks = judge(Facts(True, False, SERVICES[services], None, None))
    (check,) = checks["proxy:endpoints"]
    assert (check["status"], check["observedValue"]) == (status, observed)
    assert check.get("output") == output


def test_a_consul_that_never_answered_is_a_number_that_json_knows() -> None:
    status, checks = judge(Facts(True, False, {"s": 1}, float("inf"), None))
    assert status == "warn"
    assert json.loads(json.dumps(checks, allow_nan=False))["consul:age"][0]["status"] == "warn"


def test_an_old_answer_of_consul_alone_never_fails() -> None:
    """Fail-static: the last good table is still served."""
    assert judge(Facts(True, False, {"s": 1}, 1e12, None))[0] == "warn"
    assert judge(Facts(True, False, {}, 1e12, None))[0] == "warn"


def test_services_with_unhealthy_endpoints_only_are_a_warning() -> None:
    facts = Facts(True, False, {"s": 2, "t": 0, "u": 1}, None, None, unhealthy=("u", "s"))
    status, checks = judge(facts)
    assert status == "warn"
    assert checks["proxy:endpoints"][0]["output"] == "no endpoints: t; none healthy: s, u"
    assert judge(Facts(True, False, {"s": 2}, None, None, unhealthy=("s",)))[0] == "warn"
