"""Requests that the gateway itself has to answer although a route takes their path.

``OPTIONS *`` asks about the server that it reaches, which is this one (RFC 9110 section 9.3.7). And
OPTIONS or TRACE with ``Max-Forwards: 0`` have reached the end of their way; with more left, they go
on with one less (section 7.6.2). Such an OPTIONS is answered 204: the gateway is there, and has
nothing to say about itself. Other methods are not looked at: ``MAY_END_HERE`` says which.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.http.message import Request

MAY_END_HERE: Final = frozenset({b"OPTIONS", b"TRACE"})

MAX_HOPS: Final = 6
"""Digits of a ``Max-Forwards`` that is counted down; a longer one is left as it is."""


def ends_here(request: Request) -> bool:
    """Whether the gateway is the final recipient; else ``Max-Forwards`` is counted down."""
    if request.target == b"*":
        return True
    left = request.fields.get(b"max-forwards")
    if left is None or not left.isdigit() or len(left) > MAX_HOPS:
        return False
    if int(left) == 0:
        return True
    request.replace(b"max-forwards", b"%d" % (int(left) - 1))
    return False
