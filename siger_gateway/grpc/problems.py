"""A call's failure for a JSON client: ``grpc-status`` as a problem document (RFC 9457).

It has the form of the gateway's own (``errors.GatewayError.problem``), so that a client needs one
way to read both. ``reason`` is ``grpc_`` and the code's name; the text is the service's, which it
has written for its clients; ``details`` are the ``google.rpc`` messages that it has sent along.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf import any_pb2, descriptor_pool, json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from siger_gateway.errors import PROBLEM_CONTENT_TYPE
from siger_gateway.grpc.status import Code, decode_message, to_http
from siger_gateway.http.headers import Headers


@dataclass(frozen=True, slots=True)
class Problem:
    """A response: HTTP status, header fields, body."""

    status: int
    headers: Headers
    body: bytes


def problem_of(
    code: Code, fields: Headers, pool: DescriptorPool, *, instance: str, request_id: str
) -> Problem:
    """What to answer for a call that has failed.

    :param code: see ``status.outcome``.
    :param fields: its trailers, or the head of a "Trailers-Only" response.
    :param pool: the service's messages, which the details may be of (``Transcoder.pool``).
    :param instance: the request's path.
    """
    status = to_http(code)
    values = dict(fields)
    name = code.name.lower()
    details = _details(values.get(b"grpc-status-details-bin", b""))
    document: dict[str, Any] = {
        "type": f"urn:siger:problem:grpc_{name}",
        "title": name.replace("_", " ").capitalize(),
        "status": status,
        "detail": decode_message(values.get(b"grpc-message", b"")),
        "instance": instance,
        "reason": f"grpc_{name}",
        "request_id": request_id,
    }
    if details:
        document["details"] = [_document(detail, pool) for detail in details]
    headers = [
        (b"content-type", PROBLEM_CONTENT_TYPE.encode()),
        (b"cache-control", b"no-store"),
        *_retry_after(details),
    ]
    return Problem(status, headers, orjson.dumps(document))


def _details(value: bytes) -> list[any_pb2.Any]:
    """The details that a ``grpc-status-details-bin`` holds; none, if it is not well formed."""
    try:
        # Padding is optional (PROTOCOL-HTTP2.md, Custom-Metadata).
        text = value.rstrip(b"=")
        raw = b64decode(text + b"=" * (-len(text) % 4), validate=True)
        return list(status_pb2.Status.FromString(raw).details)
    except (BadBase64, DecodeError):
        return []


def _document(detail: any_pb2.Any, pool: DescriptorPool) -> dict[str, Any]:
    """A detail in JSON; of an unknown type: its bytes in base64, under ``value``."""
    for known in (pool, descriptor_pool.Default()):  # the latter has google.rpc.error_details
        try:
            document: dict[str, Any] = json_format.MessageToDict(detail, descriptor_pool=known)
            orjson.dumps(document)
        except (TypeError, ValueError, DecodeError, json_format.SerializeToJsonError):
            continue
        return document
    return {"@type": detail.type_url, "value": b64encode(detail.value).decode()}


def _retry_after(details: list[any_pb2.Any]) -> Headers:
    """``Retry-After`` in whole seconds, rounded up, if a ``RetryInfo`` is among the details."""
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Is(retry.DESCRIPTOR):
            try:
                detail.Unpack(retry)
            except DecodeError:
                continue
            delay = retry.retry_delay
            return [(b"retry-after", b"%d" % max(delay.seconds + (delay.nanos > 0), 0))]
    return []
