"""Requests that the gateway itself has to answer although a route takes their path.

``OPTIONS *`` asks about the server that it reaches, which is this one (RFC 9110 section 9.3.7). And
OPTIONS or TRACE with ``Max-Forwards: 0`` have reached the end of their way; with more left, they go
on with one less (section 7.6.2). Other methods are not looked at: ``MAY_END_HERE`` says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from siger_gateway.http1.headers import Headers
from siger_gateway.http1.message import ProtocolError, Request
from siger_gateway.http1.stream import DownstreamStream

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
    fewer = b"%d" % (int(left) - 1)
    request.fields[b"max-forwards"] = fewer
    request.headers = [
        (name, fewer if name == b"max-forwards" else value) for name, value in request.headers
    ]
    return False


class OptionsReply:
    """Answers OPTIONS with 204: the gateway is there, and has nothing to say about itself.

    :param account: called with ``status`` and ``reason`` before the answer.
    """

    __slots__ = ("_account", "_identity", "_request", "_stream")

    def __init__(
        self,
        request: Request,
        stream: DownstreamStream,
        identity: bytes,
        account: Callable[..., None],
    ) -> None:
        self._request = request
        self._stream = stream
        self._identity = identity
        self._account = account

    def start(self) -> None:
        self._account(status=204, reason="")
        if not self._request.complete:  # the body is not awaited
            self._stream.close_after_response()
        self._stream.send_head(204, [(b"x-request-id", self._identity)], b"", sized=True)
        self._stream.send_end([])

    # The stream is ended in ``start``: none of these is ever called.

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_request_error(self, error: ProtocolError) -> None: ...

    def on_downstream_closed(self) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
