"""What a filter is: a plain function of one request, which lets it pass or answers it.

A filter has nothing to wait for, unless it says so: then it returns an awaitable, and the rest of
the request waits with it. What it has to tell the service or the client it leaves in the ``Call``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from siger_gateway.errors import GatewayError
from siger_gateway.filters.headers import VARY, add_missing, merge_vary
from siger_gateway.filters.identity import Identity
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream


class Call:
    """One request on its way through the filters of its route, and what they leave behind.

    :param client: the client's address, as far as ``trusted_proxies`` are to be believed.
    :param scheme: ``http`` or ``https``: how the client has come, as far as they are.
    """

    __slots__ = (
        "client",
        "defaults",
        "identity",
        "on_end",
        "request",
        "scheme",
        "stream",
        "to_client",
        "to_service",
    )

    def __init__(
        self, request: Request, client: str, scheme: bytes, stream: DownstreamStream
    ) -> None:
        self.request = request
        self.stream = stream
        self.client = client
        self.scheme = scheme
        self.identity: Identity | None = None
        self.to_service: Headers = []
        """Fields that the service gets; no client's field of these names gets through."""
        self.to_client: Headers = []
        """Fields that are added to the response, whoever makes it."""
        self.defaults: Headers = []
        """Fields that are added to the response unless it has them. Shared: never changed."""
        self.on_end: list[Callable[[], None]] = []
        """Called once each when the exchange is over, however it ends."""

    @property
    def only_adds(self) -> bool:
        """Whether ``dress`` appends ``to_client`` and no more, whatever the response holds."""
        return not self.defaults and VARY not in dict(self.to_client)

    def dress(self, headers: Headers) -> Headers:
        """The fields of a response, with what the filters add to it."""
        if self.to_client:
            headers = merge_vary(headers, self.to_client)
        if self.defaults:
            add_missing(headers, self.defaults)
        return headers

    def end(self) -> None:
        """The exchange is over."""
        callbacks, self.on_end = self.on_end, []
        for callback in callbacks:
            callback()


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer in place of the service's, which is not an error."""

    status: int
    headers: Headers


Verdict = GatewayError | Reply | None
"""What answers the request; None: it may pass."""

Filter = Callable[[Call], Verdict | Awaitable[Verdict]]
"""Who a request comes from, once that is known."""
