"""A request that the gateway has not (yet) passed on: what its answer and its account need.

``Exchange`` is what most requests become at once. All the others, those that filters look at and
those that the gateway answers itself, have an ``Arrival`` first, and many have nothing else.
"""

from __future__ import annotations

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.reply import send_problem
from siger_gateway.telemetry.metrics import RouteStats


class Arrival:
    """One request.

    :param route: the label of its route in metrics and logs.
    :param path: the normal form of its path.
    :param request_id: the client's, or a new one.
    :param started: ``time.perf_counter()`` when the head had been parsed.
    """

    __slots__ = ("_accounts", "_stats", "call", "path", "request_id", "route", "started")

    def __init__(
        self,
        accounts: Accounts,
        route: str,
        stats: RouteStats,
        call: Call,
        path: bytes,
        request_id: bytes,
        started: float,
    ) -> None:
        self._accounts = accounts
        self._stats = stats
        self.route = route
        self.call = call
        self.path = path
        self.request_id = request_id
        self.started = started

    def close(self, status: int, reason: str, detail: str = "") -> None:
        """The exchange is over, and no service has taken part in it. Once.

        :param status: what the client was sent, or 499 when it left before that.
        :param reason: of an error; "" when there was none.
        :param detail: what only the operator may know of it.
        """
        call = self.call
        self._accounts.close_exchange(
            call.request,
            call.stream,
            self._stats,
            call,
            started=self.started,
            status=status,
            reason=reason,
            detail=detail,
            route=self.route,
            service="",
            endpoint="",
            request_id=self.request_id,
            client=call.client,
        )

    def refuse(self, error: GatewayError) -> None:
        """Answers with ``error``."""
        self.close(error.status, error.reason)
        call = self.call
        send_problem(
            call.stream,
            error,
            request=call.request,
            request_id=self.request_id,
            dress=call.dress,
        )
