"""``google.api.HttpBody``: a message that is a body as it is, with its media type, and no JSON.

A method that takes one gets the client's body, one that returns one is the client's response; of
streams, piece by piece (google/api/httpbody.proto).
"""

from __future__ import annotations

import re
from typing import Any, Final

from google.protobuf.descriptor import Descriptor

from siger_gateway.errors import GatewayError

UNKNOWN: Final = b"application/octet-stream"
"""What a body is of which nobody says anything: what browsers do not look into."""

_FIELD_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
"""A value of a header field (RFC 9110 section 5.5), of the characters that media types have."""

Message = Any


def is_http_body(kind: Descriptor | None) -> bool:
    """:param kind: of a message; None: of a field that holds none."""
    return kind is not None and kind.full_name == "google.api.HttpBody"


def fill(message: Message, media_type: bytes, data: bytes) -> None:
    """Makes ``message`` the body of a request.

    :param media_type: the request's Content-Type; empty: it has none.
    """
    message.content_type = media_type.decode("latin-1")
    message.data = data
    message.SetInParent()  # it is there, even if both are empty


def content_of(message: Message) -> tuple[bytes, bytes]:
    """Content-Type and body of a response.

    :raises GatewayError: ``upstream_message``.
    """
    media_type: str = message.content_type
    if not media_type:
        return UNKNOWN, message.data
    if not _FIELD_VALUE.fullmatch(media_type):
        raise GatewayError("upstream_message")
    return media_type.encode("ascii"), message.data
