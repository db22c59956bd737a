"""The attempts of one exchange after the first: whether, on which endpoint, and when.

Made when the first attempt has failed, so most exchanges never have one. ``retry`` has the rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from siger_gateway.http.message import Request, Response
from siger_gateway.proxy.request_body import RequestBody
from siger_gateway.proxy.retry import (
    MAX_RETRY_AFTER,
    NO_LOAD,
    RetryPolicy,
    backoff,
    retry_after,
)
from siger_gateway.upstream.cluster import Cluster, Endpoint

BUDGET_WAITS: Final = 10
"""Times that an attempt that took too long looks again whether the budget has room for another one,
each after a delay as before an attempt: those that wait for the same hung endpoint are given up in
the same tick, and the budget, which takes one after the other, is there for an overload."""


class Attempts:
    """What remains to be tried.

    :param client: the client's address, for the choice of an endpoint.
    :param body: of the request; None: it has none.
    :param begin: begins an attempt on an endpoint.
    :param give_up: called with reason and detail when there is no other attempt.
    """

    __slots__ = (
        "_begin",
        "_body",
        "_client",
        "_cluster",
        "_give_up",
        "_in_budget",
        "_made",
        "_policy",
        "_request",
        "_timer",
        "_tried",
        "stale",
    )

    def __init__(
        self,
        policy: RetryPolicy,
        cluster: Cluster,
        request: Request,
        client: str,
        body: RequestBody | None,
        begin: Callable[[Endpoint], None],
        give_up: Callable[[str, str], None],
    ) -> None:
        self._policy = policy
        self._cluster = cluster
        self._request = request
        self._client = client
        self._body = body
        self._begin = begin
        self._give_up = give_up
        self._made = 1
        self._tried: tuple[Endpoint, ...] = ()
        self._in_budget = False
        self._timer: asyncio.TimerHandle | None = None
        self.stale = False
        """Whether the last one failed on a connection that had been used before."""

    @property
    def backing_off(self) -> bool:
        return self._timer is not None

    def after_failure(self, endpoint: Endpoint, reason: str, detail: str) -> None:
        """Begins another attempt, now or later, or gives up. The one on ``endpoint`` is over."""
        another = self._another(endpoint, reason)
        if another is None:
            self._give_up(reason, detail)
        elif reason in NO_LOAD or self.stale:
            self._repeat(another, reason, 0.0)
        else:
            waits = BUDGET_WAITS if reason == "response_timeout" else 0
            self._await_budget(another, reason, detail, waits)

    def instead_of(
        self, endpoint: Endpoint, response: Response, cause: str
    ) -> Callable[[], None] | None:
        """What begins another attempt, to be called when the one that gave ``response`` is over;
        None: the response is to be passed on."""
        wait = retry_after(response.fields.get(b"retry-after", b""), time.time())
        if wait > MAX_RETRY_AFTER:
            return None
        another = self._another(endpoint, cause)
        if another is None or not self._cluster.begin_retry():
            return None

        def begin() -> None:
            self._in_budget = True
            self._repeat(another, cause, max(wait, backoff(self._made)))

        return begin

    def release(self) -> None:
        """The current attempt is over."""
        if self._in_budget:
            self._in_budget = False
            self._cluster.retrying -= 1

    def cancel(self) -> None:
        """The exchange is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _another(self, failed: Endpoint, cause: str) -> Endpoint | None:
        replayable = self._body is None or self._body.replayable
        if self._made >= self._policy.attempts or not self._policy.covers(
            cause, self._request.method, stale=self.stale, replayable=replayable
        ):
            return None
        self._tried = (*self._tried, failed)
        endpoint = self._cluster.pick(self._request, self._client, self._tried)
        if endpoint is None and self.stale:
            return failed  # only its old connection was dead
        return endpoint

    def _await_budget(self, endpoint: Endpoint, cause: str, detail: str, waits: int) -> None:
        """Begins another attempt if the budget has room for it, or when it has."""
        self._timer = None
        if self._cluster.begin_retry():
            self._in_budget = True
            self._repeat(endpoint, cause, backoff(self._made))
        elif waits:
            self._timer = asyncio.get_running_loop().call_later(
                backoff(self._made), self._await_budget, endpoint, cause, detail, waits - 1
            )
        else:
            self._give_up("retry_budget", f"{cause}: {detail}")

    def _repeat(self, endpoint: Endpoint, cause: str, delay: float) -> None:
        self._cluster.stats.retries[cause] += 1
        if delay:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._begin_now, endpoint)
        else:
            self._begin_now(endpoint)

    def _begin_now(self, endpoint: Endpoint) -> None:
        self._timer = None
        self._made += 1
        self._begin(endpoint)
