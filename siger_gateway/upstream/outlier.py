"""Passive outlier detection: an endpoint that fails its requests is *ejected*, left out
for a while.

Two things eject: so many errors in a row, and a success rate far below that of the other endpoints
over an interval. An ejection lasts ``eject_for`` times the number of ejections in a row; every
interval in service without an error takes one of them back. Never more than ``max_ejected`` of the
endpoints are out: when all of them fail, the fault is elsewhere. The algorithm and its figures are
Envoy's (outlier detection, in its architecture overview).

Nothing waits and no clock is read here: ``attempt_ended`` is called at the end of each attempt and
``tick`` with the loop's time, and what they decide stands in ``Endpoint.ejected``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Final

from siger_gateway.config.schema import OutlierConfig

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

ERRORS: Final = frozenset({0, 500, 502, 503, 504})
"""What is held against an endpoint: no response or half of one (0), and the statuses by which a
service says that it failed. 501 and 505 are about the request: a client could eject with them."""

LEAST_GAP: Final = 0.05
"""By how much a success rate must at least be below the mean: with five endpoints, one failed
request in a thousand on one of them is two standard deviations already."""

log = logging.getLogger(__name__)


class _Record:
    """What is known of one endpoint."""

    __slots__ = ("ejections", "errors", "requests", "returned", "row")

    def __init__(self) -> None:
        self.row = 0
        """Errors since the last success."""
        self.requests = 0
        """Attempts that ended in this interval, and below, those that failed."""
        self.errors = 0
        self.ejections = 0
        """In a row; what the length of the next one is made of."""
        self.returned = 0.0
        """When the last ejection ended."""


class OutlierDetector:
    """Watches the endpoints of one cluster.

    :param service: its name, for the log.
    :param now: the loop's time.
    :param changed: called when ``ejected`` of an endpoint has become another.
    """

    def __init__(
        self, service: str, config: OutlierConfig, now: float, changed: Callable[[], None]
    ) -> None:
        self._service = service
        self._config = config
        self._changed = changed
        self._now = now
        self._interval_ends = now + config.interval
        self._records: dict[Endpoint, _Record] = {}
        self._ejected: dict[Endpoint, float] = {}  # and until when
        self._allowed = 0  # endpoints that may be ejected at a time

    def follow(self, endpoints: Sequence[Endpoint]) -> None:
        """Makes ``endpoints`` the ones that are watched; what is known of those that stay is kept.
        Of too few, those who would return next return now."""
        self._records = {one: self._records.get(one) or _Record() for one in endpoints}
        self._ejected = {one: end for one, end in self._ejected.items() if one in self._records}
        self._allowed = most_ejected(len(self._records), self._config.max_ejected)
        while len(self._ejected) > self._allowed:
            self._return(min(self._ejected, key=self._ejected.__getitem__))

    def attempt_ended(self, endpoint: Endpoint, status: int) -> None:
        """An attempt ended with this status, its response complete; 0: no or half a response."""
        record = self._records.get(endpoint)
        if record is None:  # it has left the table since the attempt began
            return
        record.requests += 1
        if status not in ERRORS:
            record.row = 0
            return
        record.errors += 1
        record.row += 1
        if 0 < self._config.errors <= record.row:
            self._eject(endpoint, f"{record.row} errors in a row")

    def tick(self, now: float) -> None:
        """Ends the ejections and the interval that are over; ``now`` is the loop's time."""
        self._now = now
        for endpoint in [one for one, end in self._ejected.items() if end <= now]:
            self._return(endpoint)
        if now >= self._interval_ends:
            if self._config.stdev_factor:
                self._compare()
            self._begin_interval()

    def _begin_interval(self) -> None:
        interval = self._config.interval
        for endpoint, record in self._records.items():
            in_service = not endpoint.ejected and self._now - record.returned >= interval
            if in_service and not record.errors and record.ejections:
                record.ejections -= 1
            record.requests = record.errors = 0
        self._interval_ends = self._now + interval

    def _compare(self) -> None:
        """Ejects those whose success rate is far below the mean, the worst first."""
        rates = [
            (1 - record.errors / record.requests, endpoint)
            for endpoint, record in self._records.items()
            if record.requests >= self._config.min_requests and not endpoint.ejected
        ]
        if len(rates) < self._config.min_endpoints:
            return
        threshold = lowest_rate([rate for rate, _ in rates], self._config.stdev_factor)
        for rate, endpoint in sorted(rates, key=lambda pair: pair[0]):
            if rate < threshold:
                self._eject(endpoint, f"success rate {rate:.1%}, the least is {threshold:.1%}")

    def _eject(self, endpoint: Endpoint, cause: str) -> None:
        if endpoint.ejected or len(self._ejected) >= self._allowed:
            return
        config, record = self._config, self._records[endpoint]
        if config.eject_for * record.ejections < config.max_eject_for:
            record.ejections += 1
        seconds = min(config.eject_for * record.ejections, config.max_eject_for)
        self._ejected[endpoint] = self._now + seconds
        endpoint.ejected = True
        self._tell(logging.WARNING, "endpoint ejected", endpoint, cause=cause, seconds=seconds)

    def _return(self, endpoint: Endpoint) -> None:
        del self._ejected[endpoint]
        endpoint.ejected = False
        record = self._records[endpoint]
        record.returned = self._now
        record.row = record.requests = record.errors = 0
        self._tell(logging.INFO, "endpoint returned", endpoint)

    def _tell(self, level: int, message: str, endpoint: Endpoint, **fields: object) -> None:
        fields = {"service": self._service, "endpoint": endpoint.address, **fields}
        log.log(level, message, extra={"fields": fields})
        self._changed()


def most_ejected(endpoints: int, share: float) -> int:
    """How many of so many endpoints may be ejected: ``share`` of them, but one at least; the only
    endpoint never, for it would be used all the same."""
    if endpoints < 2:
        return 0
    return max(1, int(endpoints * share + 1e-9))  # 0.29 * 100 is 28.999999999999996


def lowest_rate(rates: Sequence[float], stdev_factor: float) -> float:
    """The success rate below which an endpoint stands out from these."""
    mean = sum(rates) / len(rates)
    stdev = sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    return mean - max(stdev_factor * stdev, LEAST_GAP)
