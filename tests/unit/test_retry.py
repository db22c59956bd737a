"""What may be repeated: every reason, every method, with and without a body."""

from __future__ import annotations

import pytest

from siger_gateway.errors import REASONS
from siger_gateway.http1.message import Request
from siger_gateway.http1.parser import RequestParser
from siger_gateway.proxy.retry import IDEMPOTENT, MAX_ATTEMPTS, NOT_TRIED, may_retry

METHODS = [b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"POST", b"PATCH", b"LINK"]
SAFE_TO_REPEAT = {b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"}
"""RFC 9110 section 9.2.2."""


def request(method: bytes, body: str) -> Request:
    framing = {
        "none": b"",
        "empty": b"Content-Length: 0\r\n",
        "sized": b"Content-Length: 1\r\n",
        "chunked": b"Transfer-Encoding: chunked\r\n",
    }[body]
    parser = RequestParser(1000, 1000)
    parser.receive(method + b" / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
    return parser.started[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("body", ["none", "empty", "sized", "chunked"])
@pytest.mark.parametrize("reused", [True, False])
def test_every_combination(method: bytes, body: str, reused: bool) -> None:
    for reason in REASONS:
        never_seen = reason in {
            "connect_refused",
            "connect_failed",
            "connect_timeout",
            "pending_overflow",
        }
        crossed_a_close = (
            reason == "upstream_reset"
            and reused
            and method in SAFE_TO_REPEAT
            and body in ("none", "empty")
        )
        expected = never_seen or crossed_a_close
        assert may_retry(request(method, body), reason, reused=reused) is expected, reason


def test_no_request_with_an_effect_is_ever_sent_twice() -> None:
    for reason in set(REASONS) - NOT_TRIED:
        assert not may_retry(request(b"POST", "none"), reason, reused=True)
        assert not may_retry(request(b"PATCH", "none"), reason, reused=True)


def test_the_tables_name_known_reasons_and_methods() -> None:
    assert set(REASONS) > NOT_TRIED
    assert IDEMPOTENT == SAFE_TO_REPEAT
    assert MAX_ATTEMPTS >= 2
    assert all(REASONS[reason].retryable for reason in NOT_TRIED)
