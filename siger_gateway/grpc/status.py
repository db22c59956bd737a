"""gRPC's status codes: from HTTP's, from our own reasons, and out of a response's fields.

A gRPC client is told of a failure by ``grpc-status``, not by the HTTP status, so a local reply to
it is a response head with status 200 that is at the same time the end: "Trailers-Only"
(PROTOCOL-HTTP2.md of grpc). What went wrong stands in it twice, as ``grpc-message`` for people and
as a ``google.rpc.Status`` in ``grpc-status-details-bin`` for programs, with our reason in it.

Every proxied call needs this file, so it does not need protobuf: the few messages that a reply is
made of are written by ``_field`` and ``_number`` below.
"""

from __future__ import annotations

from binascii import b2a_base64
from enum import IntEnum
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from siger_gateway.errors import REASONS, GatewayError
from siger_gateway.http.headers import Headers

DOMAIN: Final = "siger"
"""``ErrorInfo.domain``: whose words the reasons are."""

MAX_MESSAGE: Final = 4096
"""Bytes of ``grpc-message`` that are written, before percent-encoding: peers limit their header
lists, many to 8 KiB for all of it."""


class Code(IntEnum):
    """The codes of grpc (statuscodes.md); the names are bounded, so they can be metric labels."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_FROM_HTTP: Final = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""http-grpc-status-mapping.md: for responses of servers that do not speak gRPC."""

_TO_HTTP: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""The "HTTP Mapping" of google/rpc/code.proto."""

_OF_STATUS: Final = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    414: Code.INVALID_ARGUMENT,
    415: Code.INVALID_ARGUMENT,
    417: Code.INVALID_ARGUMENT,
    422: Code.INVALID_ARGUMENT,
    429: Code.RESOURCE_EXHAUSTED,
    431: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
    505: Code.UNIMPLEMENTED,
    508: Code.INTERNAL,
}
"""The code of a local reply by its HTTP status. Not ``_FROM_HTTP``: that one has to guess."""

_OF_REASON: Final = {
    # There is no such method, as far as this gateway knows.
    "no_route": Code.UNIMPLEMENTED,
    "jobs_disabled": Code.UNIMPLEMENTED,
    # The key names a job that was submitted already, and it is another one.
    "idempotency_mismatch": Code.ALREADY_EXISTS,
    # Not DEADLINE_EXCEEDED: no method has seen the call, and trying again is safe.
    "connect_timeout": Code.UNAVAILABLE,
    # Not UNAVAILABLE, which clients take as leave to try again.
    "upstream_protocol": Code.INTERNAL,
    "upstream_message": Code.INTERNAL,
}

CODES: Final = {
    reason: _OF_REASON.get(reason) or _OF_STATUS[row.status] for reason, row in REASONS.items()
}
"""Reason of ``errors.REASONS`` -> code. A reason with a new status fails here, at import."""


_BY_DIGITS: Final = {digits: code for code in Code for digits in (b"%d" % code, b"%02d" % code)}
"""What ``grpc-status`` may say -> code: not by ``int()``, which would also take "+1", blanks and
"1_0", and ``Code()``, which takes longer than all the rest."""


def is_grpc(content_type: bytes) -> bool:
    """Whether this is a gRPC call: ``application/grpc``, with or without ``+proto``, ``+json``...

    gRPC-Web is another protocol: it has ``web``.
    """
    if content_type == b"application/grpc":  # nearly all of them, and most others are shorter
        return True
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/grpc" or media_type.startswith(b"application/grpc+")


def from_http(status: int) -> Code:
    """The code of a response without ``grpc-status`` (http-grpc-status-mapping.md)."""
    return _FROM_HTTP.get(status, Code.UNKNOWN)


def to_http(code: Code) -> int:
    """The HTTP status that tells a JSON client of ``code``."""
    return _TO_HTTP[code]


def code_in(fields: Headers) -> Code | None:
    """The ``grpc-status`` of a head or of trailers; None: there is none.

    What is not a code is ``UNKNOWN``, as clients take it.
    """
    for name, value in fields:
        if name == b"grpc-status":
            return _BY_DIGITS.get(value, Code.UNKNOWN)
    return None


def outcome(status: int, head: Headers, trailers: Headers) -> Code:
    """How a call that has ended went, for metrics, retries and outlier detection.

    :param status: the HTTP status of the response.
    :param trailers: empty for a "Trailers-Only" response, whose head says it.
    """
    code = code_in(trailers)
    if code is None:
        code = code_in(head)
    return from_http(status) if code is None else code


def encode_message(text: str) -> bytes:
    """``grpc-message``: percent-encoded UTF-8 (PROTOCOL-HTTP2.md, Percent-Encoded).

    Cut to ``MAX_MESSAGE`` bytes, never within a character.
    """
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_MESSAGE:
        raw = raw[:MAX_MESSAGE].decode("utf-8", "ignore").encode()
    return quote_from_bytes(raw, _UNENCODED).encode()


def decode_message(value: bytes) -> str:
    """The text of a ``grpc-message``; what is badly encoded stays as it is, as it has to."""
    return unquote_to_bytes(value).decode("utf-8", "replace")


def trailers_only(error: GatewayError, request_id: bytes) -> tuple[int, Headers]:
    """The local reply for a gRPC call: the HTTP status, and the fields of a head that is the end.

    The details are ``google.rpc.ErrorInfo`` (our reason, the request id, the error's extensions),
    ``RetryInfo`` if it is known when to try again, ``BadRequest`` if fields are named.
    """
    code = CODES[error.reason]
    metadata = {"request_id": request_id.decode("latin-1")}
    metadata |= {name: str(value) for name, value in (error.extensions or {}).items()}
    details = [_any(b"google.rpc.ErrorInfo", _error_info(error.reason, metadata))]
    headers = {name.lower(): value for name, value in error.headers.items()}
    seconds = headers.get("retry-after", "")
    if seconds.isascii() and seconds.isdigit():
        delay = _number(1, int(seconds[:9]))
        details.append(_any(b"google.rpc.RetryInfo", _field(1, delay)))
    if error.errors:
        violations = [
            _field(1, _text(1, bad["field"]) + _text(2, bad["detail"])) for bad in error.errors
        ]
        details.append(_any(b"google.rpc.BadRequest", b"".join(violations)))
    status = _number(1, code) + _text(2, error.detail)
    status += b"".join([_field(3, detail) for detail in details])
    return 200, [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", encode_message(error.detail)),
        # Binary fields are base64, and padding is not sent (PROTOCOL-HTTP2.md, Custom-Metadata).
        (b"grpc-status-details-bin", b2a_base64(status, newline=False).rstrip(b"=")),
        *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
    ]


_UNENCODED: Final = "".join(chr(code) for code in range(0x20, 0x7F) if code != ord("%"))


def _varint(value: int) -> bytes:
    """Base 128, lowest first (Protocol Buffers, Encoding). ``value`` is not negative."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(number: int, value: int) -> bytes:
    """Field ``number`` of an integer type; 0 is the default, and not written."""
    return _varint(number << 3) + _varint(value) if value else b""


def _field(number: int, value: bytes) -> bytes:
    """Field ``number`` that is a message, bytes or a string: wire type 2, with its length."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode("utf-8", "replace")) if text else b""


def _any(name: bytes, value: bytes) -> bytes:
    """``google.protobuf.Any`` with a message of the type ``name``."""
    return _field(1, b"type.googleapis.com/" + name) + _field(2, value)


def _error_info(reason: str, metadata: dict[str, str]) -> bytes:
    entries = [_field(3, _text(1, name) + _text(2, value)) for name, value in metadata.items()]
    return _text(1, reason) + _text(2, DOMAIN) + b"".join(entries)
