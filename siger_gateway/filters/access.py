"""Which addresses may come: ``allow`` and ``deny`` of a route.

``deny`` wins over ``allow``, whatever their order and length; if anything is allowed, all else is
not. A client without an address that can be compared (of a Unix socket, or hidden by a proxy:
``unknown``, ``_hidden``) is refused as soon as there is either list: it could be anybody.

Clients come back, so the verdict on one is remembered: a request of a known client costs one
look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call, Filter, Verdict
from siger_gateway.filters.networks import Networks, address_of

MAX_KNOWN: Final = 4096
"""Clients that are remembered, of which each takes about 150 bytes. Then all are forgotten: who has
an IPv6 network can fill this at will, and gains that others are judged anew, at 5 us each."""


def access_filter(allow: Sequence[str], deny: Sequence[str]) -> Filter:
    """The filter of a route with these lists.

    :param allow: addresses and networks in CIDR notation; empty: everybody.
    :param deny: the same; empty: nobody.
    :raises ValueError: if one is neither an address nor a network.
    """
    allowed, denied = Networks(allow), Networks(deny)
    known: dict[str, bool] = {}

    def judge(client: str) -> bool:
        address = address_of(client)
        if address is None:
            passes = not allowed and not denied
        else:
            passes = address not in denied and (not allowed or address in allowed)
        if len(known) >= MAX_KNOWN:
            known.clear()
        known[client] = passes
        return passes

    def access(call: Call) -> Verdict:
        client = call.client
        passes = known.get(client)
        if passes is None:
            passes = judge(client)
        return None if passes else GatewayError("address_denied")

    return access
