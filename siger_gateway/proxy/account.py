"""What stays of an exchange: its metrics, and a line in the access log. Once, however it ended."""

from __future__ import annotations

import time
from time import perf_counter

from siger_gateway.filters.filter import Call
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.telemetry.access_log import AccessLog
from siger_gateway.telemetry.access_record import AccessRecord
from siger_gateway.telemetry.metrics import Metrics, RouteStats


class Accounts:
    """Where exchanges are counted and logged; ``access_log`` None costs one comparison."""

    __slots__ = ("access_log", "metrics")

    def __init__(self, metrics: Metrics, access_log: AccessLog | None) -> None:
        self.metrics = metrics
        self.access_log = access_log

    def count(self, stats: RouteStats, method: bytes, status: int, elapsed: float) -> None:
        """Counts one exchange, of ``elapsed`` seconds, in the metrics."""
        self.metrics.in_flight -= 1
        stats.requests[method, status] += 1
        stats.duration.observe(elapsed)

    def close_exchange(
        self,
        request: Request,
        stream: DownstreamStream,
        stats: RouteStats,
        call: Call | None,
        *,
        started: float,
        status: int,
        reason: str,
        detail: str,
        route: str,
        service: str,
        endpoint: str,
        request_id: bytes,
        client: str,
    ) -> None:
        """Counts and logs one exchange, and tells the filters that it is over.

        :param call: of a route with filters.
        :param started: ``time.perf_counter()`` when the head had been parsed.
        :param status: what the client was sent, or 499 when it left before that.
        :param reason: of a local reply or a broken response; "" when all went well.
        :param detail: what only the operator may know of it.
        """
        identity = None
        if call is not None:
            call.end()
            identity = call.identity
        elapsed = perf_counter() - started
        self.count(stats, request.method, status, elapsed)
        if reason:
            self.metrics.local_replies[reason] += 1
        if self.access_log is not None:
            agent = request.fields.get(b"user-agent", b"")
            self.access_log.append(
                AccessRecord(
                    time.time(),
                    request_id.decode("latin-1"),
                    client,
                    request.method.decode("latin-1"),
                    request.path.decode("latin-1"),
                    route,
                    service,
                    endpoint,
                    status,
                    elapsed,
                    stream.bytes_in,
                    stream.bytes_out,
                    reason,
                    detail,
                    agent.decode("latin-1"),
                    request.target[len(request.path) + 1 :],
                    "" if identity is None else identity.user,
                    "" if identity is None else identity.key_id,
                )
            )
