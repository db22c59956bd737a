"""Whether, and when, a failed attempt is repeated: pure decisions (RFC 9110 section 9.2.2).

Three things have to come together: the route's policy names the failure, a repetition can do no
harm (nothing has been sent, or the method is idempotent and the body is still here), and, where
the service has had work with the failed attempt, the budget of the service has room (see
``upstream.cluster.Cluster.begin_retry``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import random
from typing import Final

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

NOT_TRIED: Final = frozenset(
    {
        "connect_refused",
        "connect_timeout",
        "connect_failed",
        "pending_overflow",
        "stream_refused",
        "tls_certificate",
        "tls_failed",
    }
)
"""Reasons that say that the service has done nothing with the request; mostly it has not seen a
byte of it."""

NO_LOAD: Final = frozenset({"connect_refused", "connect_failed", "stream_refused"})
"""Reasons that say that nobody has had any work with the attempt: there is no overload that another
one could make worse, so it needs no budget and no delay. A service of which a few instances have
just been replaced fails like this in its busiest moments."""

BROKEN: Final = frozenset({"upstream_reset", "upstream_protocol", "response_timeout"})
"""Reasons that ``reset`` in a policy stands for, as Envoy's ``reset`` does."""

GRPC_CAUSES: Final = {
    1: "cancelled",
    4: "deadline-exceeded",
    8: "resource-exhausted",
    13: "internal",
    14: "unavailable",
}
"""gRPC's status code -> the condition that names it, as in Envoy's ``x-envoy-retry-grpc-on``. Who
names one says that calls may be made again: no method of gRPC tells by itself."""

BACKOFF: Final = 0.025
"""Seconds, the mean of the first delay; it doubles with each attempt. Envoy's base interval."""

MAX_RETRY_AFTER: Final = 1.0
"""Seconds that the gateway itself waits because of a ``Retry-After``; beyond it the client decides,
who gets the response as it came."""


_CAUSES_OF_GRPC: Final = frozenset(GRPC_CAUSES.values())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What one route repeats.

    :param attempts: tries in all, the first included.
    :param causes: reasons of failures, and statuses, after which another attempt is made.
    :param statuses: those of them that are statuses, to be found quickly.
    :param codes: the same for codes of gRPC.
    """

    attempts: int
    causes: frozenset[str]
    statuses: frozenset[int]
    codes: frozenset[int] = frozenset()

    @classmethod
    def of(cls, attempts: int, conditions: Iterable[str]) -> RetryPolicy:
        """:param conditions: ``connect``, ``reset``, a status, or one of ``GRPC_CAUSES``, as in
        the configuration."""
        names = {"connect": NOT_TRIED, "reset": BROKEN}
        causes: set[str] = set()
        for condition in conditions:
            causes |= names.get(condition, {condition})
        statuses = frozenset(int(cause) for cause in causes if cause.isdigit())
        codes = frozenset(code for code, cause in GRPC_CAUSES.items() if cause in causes)
        return cls(attempts, frozenset(causes), statuses, codes)

    def covers(self, cause: str, method: bytes, *, stale: bool, replayable: bool) -> bool:
        """Whether an attempt that failed for ``cause`` may be followed by another.

        :param cause: a reason, or the status of the response in digits.
        :param stale: the connection had served another exchange before. Servers close idle
            connections, and a request that crosses with that close has most likely not been read,
            so it is repeated whatever the policy names; on a new connection a reset may mean that
            this request is what the service died of.
        :param replayable: what was sent of the body is still here.
        """
        if cause in NOT_TRIED or cause in _CAUSES_OF_GRPC:
            return cause in self.causes and replayable
        if method not in IDEMPOTENT or not replayable:
            return False
        return cause in self.causes or (stale and cause == "upstream_reset")


def backoff(attempts: int) -> float:
    """Seconds before the attempt that follows ``attempts`` others: full jitter, so that clients
    that failed together do not come back together."""
    return BACKOFF * 2 ** float(attempts) * random()


def retry_after(value: bytes, now: float) -> float:
    """Seconds that a ``Retry-After`` asks for (RFC 9110 section 10.2.3); 0.0 if it is malformed.

    :param now: ``time.time()``, for the form with a date.
    """
    text = value.strip()
    if text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text.decode("latin-1"))
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now)
