"""How failures are told to gRPC clients, and how their calls' ends are read."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64decode

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import REASONS, GatewayError
from siger_gateway.grpc.status import (
    CODES,
    MAX_MESSAGE,
    Code,
    code_in,
    decode_message,
    encode_message,
    from_http,
    is_grpc,
    outcome,
    to_http,
    trailers_only,
)


def told(error: GatewayError, request_id: bytes = b"r1") -> tuple[dict[bytes, bytes], bytes]:
    status, head = trailers_only(error, request_id)
    assert status == 200
    fields = dict(head)
    assert len(fields) == len(head)
    return fields, fields[b"grpc-status-details-bin"]


def details_of(error: GatewayError) -> status_pb2.Status:
    encoded = told(error)[1]
    return status_pb2.Status.FromString(b64decode(encoded + b"=" * (-len(encoded) % 4)))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"Application/gRPC+json; charset=utf-8", True),
        (b"application/grpc;x=y", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_only_media_types_of_grpc_are_grpc(content_type: bytes, expected: bool) -> None:
    assert is_grpc(content_type) is expected


def test_every_reason_has_a_code_that_is_a_failure() -> None:
    assert CODES.keys() == REASONS.keys()
    assert Code.OK not in CODES.values()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("unauthenticated", Code.UNAUTHENTICATED),
        ("token_expired", Code.UNAUTHENTICATED),
        ("forbidden", Code.PERMISSION_DENIED),
        ("rate_limited", Code.RESOURCE_EXHAUSTED),
        ("body_too_large", Code.RESOURCE_EXHAUSTED),
        ("no_endpoints", Code.UNAVAILABLE),
        ("connect_refused", Code.UNAVAILABLE),
        ("connect_timeout", Code.UNAVAILABLE),
        ("response_timeout", Code.DEADLINE_EXCEEDED),
        ("invalid_fields", Code.INVALID_ARGUMENT),
        ("no_route", Code.UNIMPLEMENTED),
        ("not_found", Code.NOT_FOUND),
        ("conflict", Code.FAILED_PRECONDITION),
        ("idempotency_mismatch", Code.ALREADY_EXISTS),
        ("downstream_closed", Code.CANCELLED),
        ("internal", Code.INTERNAL),
    ],
)
def test_reasons_mean_in_grpc_what_they_mean_in_http(reason: str, code: Code) -> None:
    assert CODES[reason] is code


def test_what_a_client_may_repeat_is_told_by_codes_that_clients_repeat() -> None:
    repeated = {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED}
    for reason, row in REASONS.items():
        if row.retryable:
            assert CODES[reason] in repeated, reason


def test_http_statuses_are_mapped_as_the_document_of_grpc_says() -> None:
    mapped = {status: from_http(status) for status in (400, 401, 403, 404, 429, 502, 503, 504)}
    assert mapped == {
        400: Code.INTERNAL,
        401: Code.UNAUTHENTICATED,
        403: Code.PERMISSION_DENIED,
        404: Code.UNIMPLEMENTED,
        429: Code.UNAVAILABLE,
        502: Code.UNAVAILABLE,
        503: Code.UNAVAILABLE,
        504: Code.UNAVAILABLE,
    }
    assert {from_http(status) for status in (200, 302, 418, 500)} == {Code.UNKNOWN}


def test_every_code_has_an_http_status() -> None:
    assert [to_http(code) for code in (Code.OK, Code.NOT_FOUND, Code.UNAVAILABLE)] == [
        200,
        404,
        503,
    ]
    assert all(to_http(code) >= 400 for code in Code if code is not Code.OK)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"0", Code.OK),
        (b"14", Code.UNAVAILABLE),
        (b"16", Code.UNAUTHENTICATED),
        (b"17", Code.UNKNOWN),
        (b"-1", Code.UNKNOWN),
        (b"", Code.UNKNOWN),
        (b" 5", Code.UNKNOWN),
        (b"1_0", Code.UNKNOWN),
        (b"9" * 5000, Code.UNKNOWN),
    ],
)
def test_a_status_that_is_no_code_is_unknown(value: bytes, code: Code) -> None:
    assert code_in([(b"x", b"0"), (b"grpc-status", value)]) is code


def test_trailers_tell_the_outcome_then_the_head_then_the_http_status() -> None:
    ok, aborted = [(b"grpc-status", b"0")], [(b"grpc-status", b"10")]
    assert outcome(200, aborted, ok) is Code.OK
    assert outcome(200, aborted, []) is Code.ABORTED
    assert outcome(503, [], []) is Code.UNAVAILABLE
    assert outcome(200, [], []) is Code.UNKNOWN


def test_a_local_reply_is_a_head_with_status_message_and_details() -> None:
    fields, _ = told(GatewayError("no_endpoints", "No 100% of it: ä"))
    assert fields[b"content-type"] == b"application/grpc"
    assert fields[b"grpc-status"] == b"14"
    assert fields[b"grpc-message"] == b"No 100%25 of it: %C3%A4"
    assert b"=" not in fields[b"grpc-status-details-bin"]


def test_the_details_name_the_reason_the_request_and_what_the_error_adds() -> None:
    status = details_of(GatewayError("queue_ambiguous", extensions={"job_id": "j1"}))
    assert (status.code, status.message) == (14, REASONS["queue_ambiguous"].detail)
    info = error_details_pb2.ErrorInfo()
    assert len(status.details) == 1
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("queue_ambiguous", "siger")
    assert dict(info.metadata) == {"request_id": "r1", "job_id": "j1"}


def test_retry_info_says_what_retry_after_says() -> None:
    error = GatewayError("rate_limited", headers={"Retry-After": "300"})
    retry = error_details_pb2.RetryInfo()
    assert details_of(error).details[1].Unpack(retry)
    assert retry.retry_delay.seconds == 300
    assert told(error)[0][b"retry-after"] == b"300"


@pytest.mark.parametrize("value", ["", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "²"])
def test_a_retry_after_that_is_no_number_gives_no_retry_info(value: str) -> None:
    error = GatewayError("rate_limited", headers={"Retry-After": value})
    assert len(details_of(error).details) == 1


def test_bad_fields_become_field_violations() -> None:
    error = GatewayError(
        "invalid_fields",
        errors=[{"field": "a.b", "detail": "must be x"}, {"field": "", "detail": "d"}],
    )
    bad = error_details_pb2.BadRequest()
    assert details_of(error).details[1].Unpack(bad)
    assert [(violation.field, violation.description) for violation in bad.field_violations] == [
        ("a.b", "must be x"),
        ("", "d"),
    ]


@given(st.text(max_size=300))
def test_messages_come_back_as_they_were(text: str) -> None:
    encoded = encode_message(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert decode_message(encoded) == text.encode("utf-8", "replace").decode()


def test_only_what_must_be_is_percent_encoded() -> None:
    assert encode_message("a b~!\"'%\t\x7f") == b"a b~!\"'%25%09%7F"


def test_a_long_message_is_cut_between_characters() -> None:
    assert decode_message(encode_message("a" + "ä" * MAX_MESSAGE)) == "a" + "ä" * (
        (MAX_MESSAGE - 1) // 2
    )


@given(st.binary(max_size=100))
def test_a_badly_encoded_message_is_read_without_an_error(value: bytes) -> None:
    decode_message(value)


@given(st.text(max_size=300), st.text(max_size=50), st.integers(0, 10**9 - 1))
def test_the_details_are_what_protobuf_reads(text: str, request_id: str, seconds: int) -> None:
    error = GatewayError("internal", text or None, headers={"Retry-After": str(seconds)})
    encoded = told(error, request_id.encode())[1]
    status = status_pb2.Status.FromString(b64decode(encoded + b"=" * (-len(encoded) % 4)))
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.message == error.detail
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert info.metadata["request_id"] == request_id.encode().decode("latin-1")
    assert retry.retry_delay.seconds == seconds


def test_calls_that_are_only_passed_on_need_no_protobuf() -> None:
    program = (
        "import sys, siger_gateway.grpc.status, siger_gateway.grpc.deadline, siger_gateway.grpc.web"
        "; sys.exit('google.protobuf' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=20)
