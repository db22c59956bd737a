"""An exchange that is a gRPC call: what it takes more than any other POST with trailers.

    send head        ``grpc-timeout`` is counted down by what has passed
    relay response   a call that the service refuses at once may be made elsewhere, by its code
    release          the endpoint is judged by ``grpc-status``, not by the 200 in front of it
    account          counted by service, method and code
    failures         behind the head too there is a place to say what went wrong: the trailers

Messages are not looked at. Local replies are trailers-only answers (``reply``).
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.grpc import deadline
from siger_gateway.grpc.status import CODES, Code, outcome, to_http, trailers_only
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Response
from siger_gateway.proxy.exchange import OUTCOMES, Exchange
from siger_gateway.proxy.retry import GRPC_CAUSES
from siger_gateway.upstream.pool import AnyConnection

TIMEOUT: Final = b"grpc-timeout"


class GrpcExchange(Exchange):
    """One call."""

    __slots__ = ("_code", "_head", "_timeout")

    def start(self) -> None:
        self._code = Code.OK
        self._head: Headers = []
        self._timeout = self._request.fields.get(TIMEOUT)
        if self._cluster.speaks_http2:  # else anybody could call a body gRPC's
            self._stream.carry_messages()
        if self._timeout is not None:
            try:
                deadline.parse(self._timeout)
            except GatewayError as error:
                self._fail(error.reason, error.detail, shown=error.detail)
                return
        super().start()

    def _send_head(self, connection: AnyConnection) -> None:
        if self._timeout is not None:
            left = deadline.counted_down(self._timeout, perf_counter() - self._started)
            if left is None:
                self._connection = connection
                self._abandon()
                self._fail("response_timeout", "the caller's own deadline")
                return
            self._request.replace(TIMEOUT, left)
        super()._send_head(connection)

    def on_response(self, response: Response) -> None:
        codes = self._route.retry.codes
        if codes and response.complete and not response.trailers:
            self._code = outcome(response.status, response.headers, [])
            if self._code in codes and self._replace(response, GRPC_CAUSES[self._code]):
                stats = self._cluster.stats
                stats.outcomes[OUTCOMES[response.status]] += 1
                stats.duration.observe(perf_counter() - self._attempt_started)
                return
        self._head = response.headers
        super().on_response(response)

    def _break_off(self, reason: str) -> None:
        """A status that is not OK, so that nobody takes the messages up to here for all; a reset
        would be taken for a fault of the gateway's (INTERNAL)."""
        _, fields = trailers_only(GatewayError(reason), self._request_id)
        self._stream.send_end([field for field in fields if field[0].startswith(b"grpc-")])

    def _finish(self, trailers: Headers) -> None:
        self._code = outcome(self._status, self._head, trailers)
        super()._finish(trailers)

    def _judge(self, status: int) -> None:
        super()._judge(to_http(self._code) if status == 200 else status)

    def _account(self, status: int, reason: str, detail: str) -> None:
        code = CODES[reason] if reason else self._code
        answered = bool(self._head)
        self._accounts.metrics.grpc.count(self._called(), code.name, answered=answered)
        if code and not detail:
            detail = f"grpc-status {code.name}"
        super()._account(status, reason, detail)

    def _called(self) -> bytes:
        """``/package.Service/Method``."""
        return self._request.path
