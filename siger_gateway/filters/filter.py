"""What a filter is: a plain function of one request, which lets it pass or answers it.

A filter has nothing to wait for, unless it says so: then it returns an awaitable, and the rest of
the request waits with it. What it has to tell the service or the client it leaves in the ``Call``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from siger_gateway.errors import GatewayError
from siger_gateway.filters.identity import Identity
from siger_gateway.http1.headers import Headers
from siger_gateway.http1.message import Request


class Call:
    """One request on its way through the filters of its route.

    :param client: the client's address, as far as ``trusted_proxies`` are to be believed.
    """

    __slots__ = ("client", "identity", "on_end", "request", "to_client", "to_service")

    def __init__(self, request: Request, client: str) -> None:
        self.request = request
        self.client = client
        self.identity: Identity | None = None
        self.to_service: Headers = []
        """Fields that the service gets, in place of those of the same name."""
        self.to_client: Headers = []
        """Fields that are added to the response, whoever makes it."""
        self.on_end: list[Callable[[], None]] = []
        """Called once each when the exchange is over, however it ends."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer in place of the service's, which is not an error."""

    status: int
    headers: Headers


Verdict = GatewayError | Reply | None
"""What answers the request; None: it may pass."""

Filter = Callable[[Call], Verdict | Awaitable[Verdict]]
