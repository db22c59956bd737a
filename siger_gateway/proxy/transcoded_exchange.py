"""A gRPC call for a client that speaks JSON: what is told of it is what the client has seen.

To the service it is a call like any other. Accounts, and problems of the gateway's own, are about
the request that was made and the HTTP status that it got; and as long as no head has been sent, a
response that breaks off, or that cannot be translated, is still answered like a failed attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call
from siger_gateway.grpc.status import Code, outcome
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request, Response
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.grpc_exchange import GrpcExchange
from siger_gateway.proxy.route import ProxyRoute
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:  # it takes protobuf
    from siger_gateway.proxy.json_reply import JsonReply


class TranscodedExchange(GrpcExchange):
    """One call.

    :param asked: the request as the client has made it.
    :param reply: translates the response.
    :param request: the call.
    """

    __slots__ = ("_call_path", "_reply", "asked")

    def __init__(
        self,
        asked: Request,
        reply: JsonReply,
        route: ProxyRoute,
        cluster: Cluster,
        request: Request,
        forwarding: Headers,
        *,
        accounts: Accounts,
        request_id: bytes,
        client: str,
        started: float,
        call: Call,
    ) -> None:
        super().__init__(
            route,
            cluster,
            request,
            reply,
            request.path,
            forwarding,
            accounts=accounts,
            request_id=request_id,
            client=client,
            started=started,
            call=call,
        )
        self._code, self._head, self._timeout = Code.OK, [], None  # it may end before it starts
        self.asked = asked
        self._call_path = request.path
        self._reply = reply

    def on_response(self, response: Response) -> None:
        try:
            super().on_response(response)
        except GatewayError as error:  # of ``_reply``
            self.give_up(error)

    def on_response_data(self, response: Response) -> None:
        try:
            super().on_response_data(response)
        except GatewayError as error:
            self.give_up(error)

    def _finish(self, trailers: Headers) -> None:
        self._reply.settle(outcome(self._status, self._head, trailers), trailers)
        super()._finish(trailers)

    # Failures.

    def give_up(self, error: GatewayError, detail: str = "") -> None:
        """The call cannot go on, and the client is told why.

        :param detail: for the log only.
        """
        self._abandon()
        if self._reply.status:
            self._account(self._status, error.reason, detail)
            self._reply.break_off(error)
        else:
            self._refuse(error, detail)

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        if self._response_begun:
            self._connection = None
            self._observe_failure()
            self.give_up(GatewayError(reason), detail)
        else:
            super().on_upstream_lost(reason, detail)

    def on_timeout(self, queue: TimeoutQueue) -> None:
        if self._response_begun:
            self._observe_failure()
            self.give_up(GatewayError("stream_idle_timeout"))
        else:
            super().on_timeout(queue)

    def on_request_error(self, error: ProtocolError) -> None:
        self.give_up(GatewayError(error.reason, error.detail), error.detail)

    # Phase: account.

    def _account(self, status: int, reason: str, detail: str) -> None:
        self._request = self.asked  # nothing but accounts and problems come after this
        super()._account(self._reply.status or status, reason, detail)

    def _called(self) -> bytes:
        return self._call_path
