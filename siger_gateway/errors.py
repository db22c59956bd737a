"""What can go wrong, in one table: reason -> status, whose fault it is, whether a retry may help,
and which error of RFC 9209 it is.

``GatewayError`` is raised or returned with a *reason*; everything a client sees of it comes from
``REASONS`` and from the ``detail`` that our own code wrote. The text of other exceptions never
reaches a client: it may hold addresses, paths or secrets, so it goes to the log.

Replies are ``application/problem+json`` (RFC 9457) with a ``Proxy-Status`` (RFC 9209).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

Source = Literal["downstream", "upstream", "gateway"]

PROBLEM_CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Reason:
    """One row of the table. ``retryable``: the same request may succeed later, unchanged.

    ``error``: a type of RFC 9209 section 2.3; empty: that of the ``source``, see ``ERRORS``.
    """

    status: int
    title: str
    source: Source
    detail: str
    retryable: bool = False
    error: str = ""


ERRORS: Final[dict[Source, str]] = {
    "downstream": "http_request_error",
    "upstream": "destination_unavailable",
    "gateway": "proxy_internal_response",
}
"""Error types of RFC 9209 section 2.3 for the reasons that have none of their own."""

REASONS: Final[dict[str, Reason]] = {
    # The client's request cannot be served as it is.
    "bad_request": Reason(400, "Bad Request", "downstream", "The request is not valid HTTP."),
    "bad_path": Reason(
        400,
        "Bad Request",
        "downstream",
        "The path holds dot segments, a backslash or bad encoding.",
    ),
    "no_route": Reason(
        404,
        "Not Found",
        "downstream",
        "No route matches this request.",
        error="destination_not_found",
    ),
    "https_required": Reason(400, "Bad Request", "downstream", "This port speaks TLS: use https:."),
    "not_found": Reason(404, "Not Found", "downstream", "There is nothing at this address."),
    "malformed_json": Reason(
        400, "Bad Request", "downstream", "The request body is not valid JSON."
    ),
    "method_not_allowed": Reason(
        405, "Method Not Allowed", "downstream", "This address does not take this method."
    ),
    "request_timeout": Reason(
        408, "Request Timeout", "downstream", "The request did not arrive in time."
    ),
    "conflict": Reason(409, "Conflict", "downstream", "The state of the resource forbids this."),
    "body_too_large": Reason(
        413, "Content Too Large", "downstream", "The request body is larger than the limit."
    ),
    "uri_too_long": Reason(
        414, "URI Too Long", "downstream", "The request target is larger than the limit."
    ),
    "unsupported_media_type": Reason(
        415, "Unsupported Media Type", "downstream", "Send the body as application/json."
    ),
    "expectation_failed": Reason(
        417, "Expectation Failed", "downstream", "Only 100-continue can be expected."
    ),
    "invalid_fields": Reason(
        422, "Unprocessable Content", "downstream", "One or more fields are not valid."
    ),
    "idempotency_mismatch": Reason(
        422,
        "Unprocessable Content",
        "downstream",
        "This Idempotency-Key was used before with another body.",
    ),
    "headers_too_large": Reason(
        431,
        "Request Header Fields Too Large",
        "downstream",
        "The request header is larger than the limit.",
    ),
    "downstream_closed": Reason(
        499, "Client Closed Request", "downstream", "The client went away before the response."
    ),
    "version_not_supported": Reason(
        505, "HTTP Version Not Supported", "downstream", "Speak HTTP/1.1 or HTTP/1.0."
    ),
    # Who the client is, and what it may do.
    "unauthenticated": Reason(
        401, "Unauthorized", "downstream", "This address needs a token or an API key."
    ),
    "bad_credentials": Reason(
        401, "Unauthorized", "downstream", "The credentials are not in a form that is understood."
    ),
    "token_malformed": Reason(401, "Unauthorized", "downstream", "This is no JSON Web Token."),
    "token_algorithm": Reason(
        401, "Unauthorized", "downstream", "Tokens of this algorithm are not accepted."
    ),
    "token_key_unknown": Reason(
        401, "Unauthorized", "downstream", "The key that has signed the token is not known."
    ),
    "token_signature": Reason(
        401, "Unauthorized", "downstream", "The signature of the token is not valid."
    ),
    "token_expired": Reason(401, "Unauthorized", "downstream", "The token has expired."),
    "token_not_yet_valid": Reason(401, "Unauthorized", "downstream", "The token is not valid yet."),
    "token_issuer": Reason(
        401, "Unauthorized", "downstream", "Tokens of this issuer are not accepted."
    ),
    "token_audience": Reason(
        401, "Unauthorized", "downstream", "The token is meant for somebody else."
    ),
    "token_type": Reason(
        401, "Unauthorized", "downstream", "A token of this type gives no access."
    ),
    "token_claims": Reason(
        401, "Unauthorized", "downstream", "A claim of the token is missing or not valid."
    ),
    "api_key_unknown": Reason(401, "Unauthorized", "downstream", "This API key is not known."),
    "api_key_expired": Reason(401, "Unauthorized", "downstream", "This API key has expired."),
    "certificate_expired": Reason(
        401, "Unauthorized", "downstream", "The client certificate has expired."
    ),
    "auth_refused": Reason(
        403, "Forbidden", "downstream", "The authorization service refused the request."
    ),
    "forbidden": Reason(403, "Forbidden", "downstream", "Your roles and scopes do not allow this."),
    "address_denied": Reason(
        403, "Forbidden", "downstream", "Clients with your address are not let in."
    ),
    "origin_denied": Reason(
        403, "Forbidden", "downstream", "Pages of this origin may not do this."
    ),
    "rate_limited": Reason(
        429, "Too Many Requests", "downstream", "You have sent too many requests.", retryable=True
    ),
    "too_many_concurrent": Reason(
        429,
        "Too Many Requests",
        "downstream",
        "Too many of your requests are being served at the same time.",
        retryable=True,
    ),
    "auth_unavailable": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "Who you are cannot be found out at present.",
        retryable=True,
    ),
    # The service did not answer as it should.
    "connect_refused": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The service refused the connection.",
        retryable=True,
        error="connection_refused",
    ),
    "stream_refused": Reason(
        503,
        "Service Unavailable",
        "upstream",
        "The service takes no more requests on this connection.",
        retryable=True,
        error="http_request_denied",
    ),
    "connect_failed": Reason(
        502, "Bad Gateway", "upstream", "The service could not be reached.", retryable=True
    ),
    "tls_certificate": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The service could not prove who it is.",
        retryable=True,
        error="tls_certificate_error",
    ),
    "tls_failed": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The TLS handshake with the service failed.",
        retryable=True,
        error="tls_protocol_error",
    ),
    "upstream_reset": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The service closed the connection early.",
        retryable=True,
        error="connection_terminated",
    ),
    "upstream_protocol": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The service sent something that is not valid HTTP.",
        error="http_protocol_error",
    ),
    "upstream_message": Reason(
        502,
        "Bad Gateway",
        "upstream",
        "The service sent a message that does not fit its own description.",
        error="http_protocol_error",
    ),
    "descriptors_awaited": Reason(
        503,
        "Service Unavailable",
        "upstream",
        "The service has not described itself yet (gRPC server reflection).",
        retryable=True,
    ),
    "no_endpoints": Reason(
        503,
        "Service Unavailable",
        "upstream",
        "No endpoint of the service is available.",
        retryable=True,
    ),
    "pending_overflow": Reason(
        503,
        "Service Unavailable",
        "upstream",
        "All connections to the service are in use.",
        retryable=True,
        error="connection_limit_reached",
    ),
    "retry_budget": Reason(
        503,
        "Service Unavailable",
        "upstream",
        "The service is failing, and too many requests are being repeated already.",
        retryable=True,
    ),
    "connect_timeout": Reason(
        504,
        "Gateway Timeout",
        "upstream",
        "The service did not accept a connection in time.",
        retryable=True,
        error="connection_timeout",
    ),
    "response_timeout": Reason(
        504,
        "Gateway Timeout",
        "upstream",
        "The service did not answer in time.",
        retryable=True,
        error="http_response_timeout",
    ),
    "stream_idle_timeout": Reason(
        504,
        "Gateway Timeout",
        "upstream",
        "Nothing more came for too long.",
        error="http_response_timeout",
    ),
    # The gateway cannot do its work.
    "internal": Reason(
        500,
        "Internal Server Error",
        "gateway",
        "The gateway failed; the log knows more.",
        error="proxy_internal_error",
    ),
    "loop_detected": Reason(
        508,
        "Loop Detected",
        "gateway",
        "The request has passed this gateway too often.",
        error="proxy_loop_detected",
    ),
    "draining": Reason(
        503, "Service Unavailable", "gateway", "This gateway is shutting down.", retryable=True
    ),
    "too_many_connections": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "This gateway has reached its connection limit.",
        retryable=True,
        error="http_request_denied",
    ),
    "jobs_disabled": Reason(
        503, "Service Unavailable", "gateway", "This gateway has no job queue configured."
    ),
    "queue_unavailable": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "The job queue cannot be reached; nothing was stored.",
        retryable=True,
    ),
    "queue_overflow": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "Too many jobs are waiting to be stored; nothing was stored.",
        retryable=True,
    ),
    "queue_refused": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "The job queue refused the job; nothing was stored.",
        retryable=True,
    ),
    "queue_ambiguous": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "The job queue did not confirm in time; the job may or may not be stored. "
        "Send the same request again with the same Idempotency-Key.",
        retryable=True,
    ),
    "ledger_not_ready": Reason(
        503,
        "Service Unavailable",
        "gateway",
        "The job ledger is still being read.",
        retryable=True,
    ),
}


def proxy_status(reason: str) -> str:
    """The ``Proxy-Status`` (RFC 9209) of a local reply; the reason stands in ``details``."""
    row = REASONS[reason]
    return f'siger; error={row.error or ERRORS[row.source]}; details="{reason}"'


class GatewayError(Exception):
    """A failure with a reason of ``REASONS``.

    :param reason: a key of ``REASONS``.
    :param detail: a sentence for the client, in place of the table's; written by our own code only.
    :param errors: bad fields, each ``{"field": ..., "detail": ...}``.
    :param headers: further response fields, such as ``Retry-After``.
    :param extensions: further members of the problem document (RFC 9457 section 3.2).
    """

    def __init__(
        self,
        reason: str,
        detail: str | None = None,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> None:
        row = REASONS[reason]
        super().__init__(f"{reason}: {detail or row.detail}")
        self.reason = reason
        self.status = row.status
        self.title = row.title
        self.source = row.source
        self.retryable = row.retryable
        self.detail = detail or row.detail
        self.errors = errors
        self.headers = headers or {}
        self.extensions = extensions

    def problem(self, *, instance: str, request_id: str) -> bytes:
        """The problem document (RFC 9457) as JSON bytes. ``instance`` is the request's path."""
        document: dict[str, Any] = {
            "type": f"urn:siger:problem:{self.reason}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "reason": self.reason,
            "request_id": request_id,
        }
        if self.errors:
            document["errors"] = self.errors
        if self.extensions:
            document.update(self.extensions)
        return orjson.dumps(document)
