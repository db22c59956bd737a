"""What a client is told about its limits: ``RateLimit-Policy``, ``RateLimit`` and ``Retry-After``.

The first two are those of draft-ietf-httpapi-ratelimit-headers-10 and -11, lists of RFC 9651, where
every limit has an item with its name:

    ratelimit-policy: "minute";q=100;w=60;siger-burst=20, "day";q=5000;w=86400
    ratelimit: "minute";r=19;t=12, "day";r=4321;t=74667

``q`` requests in ``w`` seconds are the rate. The draft knows no bucket that is deeper or less deep
than ``q``: its depth is in a parameter of our own, as section 3.1 wants it. ``r`` is what is left
in the bucket. -10 calls ``t`` the time until there is more, -11 the time within which a client can
use no more than ``r``; and both want ``r / t`` to be no rate that the service does not have
(section 8.5). So it is the time in which the rate gives ``r`` requests, and without any left, the
time until there is one. Such a client never meets a refusal, whether it spreads ``r`` over ``t`` or
sends them at once and waits.

All text that does not change is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, inf
from typing import Final

from siger_gateway.filters.gcra import Outcome
from siger_gateway.http.headers import Header

GREATEST: Final = 999_999_999_999_999
"""Of an Integer (RFC 9651 section 3.3.1)."""

RATELIMIT: Final = b"ratelimit"

ROUNDING: Final = 1e-6
"""Seconds that are an error of rounding, not a reason to wait one second more; and requests."""


class Policy:
    """A limit under the name by which clients know it.

    :param name: printable ASCII.
    :param requests: how many each client has in ``per`` seconds, from all gateways together.
    :param burst: how many of them may come at once.
    :raises ValueError: for a name that cannot be in a field.
    """

    __slots__ = ("item", "name")

    def __init__(self, name: str, requests: float, per: float, burst: float) -> None:
        if not (name.isascii() and name.isprintable()):
            raise ValueError(f"the name of a limit must be printable ASCII, not {name!r}")
        # RFC 9651 section 4.1.6.
        self.name = b'"%b"' % name.replace("\\", "\\\\").replace('"', '\\"').encode()
        """As a String, with its quotes."""
        quota, window = _whole(requests, per)
        self.item = b"%b;q=%d;w=%d" % (self.name, quota, window)
        """Of ``RateLimit-Policy``."""
        if burst != requests:
            self.item += b";siger-burst=%d" % min(GREATEST, floor(burst))


def _whole(requests: float, per: float) -> tuple[int, int]:
    """The rate in whole requests and seconds, at least 1 each, as the draft wants them (sections
    3.1.1 and 3.1.3). Where it cannot be said exactly it is said too low."""
    window = ceil(max(1.0, per, per / requests) - ROUNDING)
    quota = floor(requests * (window / per) + ROUNDING)
    return min(GREATEST, max(1, quota)), min(GREATEST, window)


def policy_field(policies: Iterable[Policy]) -> Header:
    """The field for all responses of a route. ``policies``: at least one."""
    return b"ratelimit-policy", b", ".join([policy.item for policy in policies])


def limit_field(outcomes: Sequence[tuple[Policy, Outcome]]) -> Header:
    """The field for one response.

    :param outcomes: at least one. If some refuse, the others are left out: ``Retry-After`` should
        not be before the end of any window that is told (section 6 of the draft).
    """
    told = [pair for pair in outcomes if pair[1].retry_after] or outcomes
    return RATELIMIT, b", ".join([limit_item(policy, outcome) for policy, outcome in told])


def limit_item(policy: Policy, outcome: Outcome) -> bytes:
    """The field's value where there is one limit only."""
    return b"%b;r=%d;t=%d" % (policy.name, min(GREATEST, outcome.remaining), _up(outcome.window))


def retry_after(outcomes: Iterable[Outcome]) -> Header | None:
    """When the same request would pass every limit; None: now, or never.

    :param outcomes: at least one.
    """
    seconds = max([outcome.retry_after for outcome in outcomes])
    return (b"retry-after", b"%d" % _up(seconds)) if 0.0 < seconds < inf else None


def _up(seconds: float) -> int:
    """``delay-seconds`` (RFC 9110 section 10.2.3): never too early, and never 0, which would ask
    for the next request at once."""
    return min(GREATEST, max(1, ceil(seconds - ROUNDING)))
