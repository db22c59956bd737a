"""A local reply on the wire: a ``GatewayError`` as ``application/problem+json``, or for gRPC as a
status.
"""

from __future__ import annotations

from collections.abc import Callable

from siger_gateway.errors import PROBLEM_CONTENT_TYPE, GatewayError, proxy_status
from siger_gateway.grpc.status import is_grpc, trailers_only
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream


def send_problem(
    stream: DownstreamStream,
    error: GatewayError,
    *,
    request: Request,
    request_id: bytes,
    dress: Callable[[Headers], Headers] | None = None,
) -> None:
    """Answers ``request`` with ``error`` and ends the response.

    :param dress: adds what other layers have to tell the client.

    What is still to come of the request's body is not awaited, so the connection ends, and says so
    (RFC 9112 section 9.6).
    """
    if request.http2 and is_grpc(request.fields.get(b"content-type", b"")):
        _send_status(stream, error, request_id, dress)
        return
    if not request.complete:
        stream.close_after_response()
    body = error.problem(
        instance=request.path.decode("latin-1"), request_id=request_id.decode("latin-1")
    )
    headers: Headers = [
        (b"content-type", PROBLEM_CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"proxy-status", proxy_status(error.reason).encode()),
        (b"x-request-id", request_id),
    ]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    if dress is not None:
        headers = dress(headers)
    stream.send_head(error.status, headers, body, sized=True)
    stream.send_end([])


def _send_status(
    stream: DownstreamStream,
    error: GatewayError,
    request_id: bytes,
    dress: Callable[[Headers], Headers] | None,
) -> None:
    status, headers = trailers_only(error, request_id)
    headers.append((b"x-request-id", request_id))
    if dress is not None:
        headers = dress(headers)
    stream.send_head(status, headers, b"", sized=True, ends=True)
    stream.send_end([])
