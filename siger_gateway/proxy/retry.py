"""Whether a failed attempt may be repeated: a pure decision (RFC 9110 section 9.2.2)."""

from __future__ import annotations

from typing import Final

from siger_gateway.http1.message import Request

MAX_ATTEMPTS: Final = 3
"""Attempts of one exchange, the first included: two dead endpoints are survived."""

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

NOT_TRIED: Final = frozenset(
    {"connect_refused", "connect_timeout", "connect_failed", "pending_overflow"}
)
"""Reasons that say that the service has not seen a byte of the request."""


def may_retry(request: Request, reason: str, *, reused: bool) -> bool:
    """Whether another attempt cannot do harm.

    :param reused: the connection had served another exchange before. Servers close idle
        connections, and a request that crosses with that close has most likely not been read;
        on a new connection a reset means that this request is what the service died of.
    """
    if reason in NOT_TRIED:
        return True
    return (
        reason == "upstream_reset"
        and reused
        and request.method in IDEMPOTENT
        and not request.has_body
    )
