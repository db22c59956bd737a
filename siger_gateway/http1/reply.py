"""A local reply on the wire: a ``GatewayError`` as ``application/problem+json``."""

from __future__ import annotations

from siger_gateway.errors import PROBLEM_CONTENT_TYPE, GatewayError
from siger_gateway.http1.stream import DownstreamStream


def send_problem(
    stream: DownstreamStream, error: GatewayError, *, path: bytes, request_id: bytes
) -> None:
    """Answers with ``error`` and ends the response. ``path`` is that of the request."""
    body = error.problem(instance=path.decode("latin-1"), request_id=request_id.decode("latin-1"))
    headers = [
        (b"content-type", PROBLEM_CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-request-id", request_id),
    ]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    stream.send_head(error.status, headers, body, sized=True)
    stream.send_end([])
