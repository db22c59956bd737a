"""What may be repeated: every reason, every method, with and without a body."""

from __future__ import annotations

import pytest

from siger_gateway.config.schema import RetryConfig
from siger_gateway.errors import REASONS
from siger_gateway.proxy.retry import (
    BACKOFF,
    BROKEN,
    IDEMPOTENT,
    NO_LOAD,
    NOT_TRIED,
    RetryPolicy,
    backoff,
    retry_after,
)

METHODS = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"POST", b"PATCH", b"LINK"]
SAFE_TO_REPEAT = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"}
"""RFC 9110 section 9.2.2."""


DEFAULT = RetryPolicy.of(RetryConfig().attempts, RetryConfig().on)
EVERYTHING = RetryPolicy.of(3, ["connect", "reset", "502", "503", "504"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("replayable", [True, False])
@pytest.mark.parametrize("stale", [True, False])
def test_every_combination(method: bytes, replayable: bool, stale: bool) -> None:
    for reason in REASONS:
        harmless = method in SAFE_TO_REPEAT and replayable
        never_seen = reason in {
            "connect_refused",
            "connect_failed",
            "connect_timeout",
            "pending_overflow",
            "stream_refused",
            "tls_certificate",
            "tls_failed",
        }
        broken = reason in {"upstream_reset", "upstream_protocol", "response_timeout"}
        crossed_a_close = reason == "upstream_reset" and stale

        def covers(policy: RetryPolicy, reason: str = reason) -> bool:
            return policy.covers(reason, method, stale=stale, replayable=replayable)

        repeated = (never_seen and replayable) or (harmless and broken)
        assert covers(DEFAULT) is repeated, reason
        assert covers(EVERYTHING) is repeated, reason
        assert covers(RetryPolicy.of(3, ["503"])) is (harmless and crossed_a_close), reason


@pytest.mark.parametrize("method", METHODS)
def test_statuses_are_repeated_where_that_is_harmless(method: bytes) -> None:
    for status in range(400, 600):
        covered = EVERYTHING.covers(str(status), method, stale=False, replayable=True)
        assert covered is (status in (502, 503, 504) and method in SAFE_TO_REPEAT)
        assert not DEFAULT.covers(str(status), method, stale=False, replayable=True)
    assert EVERYTHING.statuses == {502, 503, 504}
    assert not DEFAULT.statuses


def test_no_request_with_an_effect_is_ever_sent_twice() -> None:
    for cause in {*REASONS, "502", "503", "504"} - NOT_TRIED:
        for method in (b"POST", b"PATCH"):
            assert not EVERYTHING.covers(cause, method, stale=True, replayable=True)


def test_the_tables_name_known_reasons_and_methods() -> None:
    assert set(REASONS) > NOT_TRIED | BROKEN
    assert NOT_TRIED > NO_LOAD
    assert IDEMPOTENT == SAFE_TO_REPEAT
    assert all(REASONS[reason].retryable for reason in NOT_TRIED)


def test_the_delay_is_jittered_and_grows() -> None:
    for attempts in (1, 2, 3):
        delays = [backoff(attempts) for _ in range(1000)]
        assert 0.0 <= min(delays) < max(delays) <= BACKOFF * 2**attempts
        assert len(set(delays)) > 900


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"", 0.0),
        (b"0", 0.0),
        (b" 120 ", 120.0),
        (b"9" * 100, 999_999_999.0),
        (b"-5", 0.0),
        (b"1.5", 0.0),
        (b"soon", 0.0),
        (b"\xe4", 0.0),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 37.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 37.0),
        (b"Sun Nov  6 08:49:37 1994", 37.0),
        (b"Sun, 06 Nov 1994 08:40:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float) -> None:
    assert retry_after(value, now=784_111_740.0) == seconds
