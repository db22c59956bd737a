"""Sizes of one route: what the head may have, and how much may follow."""

from __future__ import annotations

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call, Filter, Verdict


def size_filter(body: int, header_bytes: int) -> Filter:
    """Refuses what is larger.

    :param body: bytes of a request body; 0: any.
    :param header_bytes: bytes of names and values, with 4 for each field's separators; 0: any.
    """

    def check(call: Call) -> Verdict:
        request = call.request
        if header_bytes:
            size = sum(len(name) + len(value) + 4 for name, value in request.headers)
            if size > header_bytes:
                return GatewayError("headers_too_large", f"The limit is {header_bytes} bytes.")
        length = request.content_length
        if body and length != 0:
            if length is None:  # it comes in chunks: whoever reads them has to count
                call.stream.limit_body(body)
            elif length > body:
                return GatewayError("body_too_large", f"The limit is {body} bytes.")
        return None

    return check
