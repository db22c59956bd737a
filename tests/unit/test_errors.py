"""Every reason as a problem document (RFC 9457), and nothing in it that is not ours to say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import siger_gateway
from siger_gateway.errors import PROBLEM_CONTENT_TYPE, REASONS, GatewayError, proxy_status
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.proxy.reply import send_problem


def asked(target: bytes) -> Request:
    """A request that has arrived whole."""
    request = Request(b"GET", target, [], True)
    request.complete = True
    return request


class Recorded:
    """What was sent to a stream."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def send_head(self, status: int, headers: Headers, body: bytes, *, sized: bool) -> None:
        self.calls.append(("head", (status, dict(headers), body, sized)))

    def send_end(self, trailers: Headers) -> None:
        self.calls.append(("end", trailers))


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_a_valid_reply(reason: str) -> None:
    stream = Recorded()
    error = GatewayError(reason)
    send_problem(stream, error, request=asked(b"/\xe4/\x22\x7f"), request_id=b"id-1")  # type: ignore[arg-type]
    (_, (status, headers, body, sized)), end = stream.calls  # type: ignore[misc]
    assert end == ("end", [])
    assert (status, sized) == (REASONS[reason].status, True)
    assert headers[b"content-type"] == PROBLEM_CONTENT_TYPE.encode()
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"x-request-id"] == b"id-1"
    document = json.loads(body)
    assert document == {
        "type": f"urn:siger:problem:{reason}",
        "title": REASONS[reason].title,
        "status": status,
        "detail": REASONS[reason].detail,
        "instance": '/\xe4/"\x7f',
        "reason": reason,
        "request_id": "id-1",
    }


@pytest.mark.parametrize("reason", REASONS)
def test_the_table_says_the_same_thing_in_all_its_columns(reason: str) -> None:
    row = REASONS[reason]
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason)
    assert 400 <= row.status <= 599
    assert (row.source == "downstream") == (row.status < 500 or row.status == 505)
    assert row.detail.endswith(".")
    assert not (row.retryable and row.status < 500 and row.status != 429)
    assert f"{REASONS[reason]}"


REGISTERED = frozenset(
    """
    dns_timeout dns_error destination_not_found destination_unavailable destination_ip_prohibited
    destination_ip_unroutable connection_refused connection_terminated connection_timeout
    connection_read_timeout connection_write_timeout connection_limit_reached tls_protocol_error
    tls_certificate_error tls_alert_received http_request_error http_request_denied
    http_response_incomplete http_response_header_section_size http_response_header_size
    http_response_body_size http_response_trailer_section_size http_response_trailer_size
    http_response_transfer_coding http_response_content_coding http_response_timeout
    http_upgrade_failed http_protocol_error proxy_internal_response proxy_internal_error
    proxy_configuration_error proxy_loop_detected
    """.split()  # noqa: SIM905
)
"""The proxy error types of RFC 9209 section 2.3."""


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_a_registered_error_of_proxy_status(reason: str) -> None:
    name, error, details = proxy_status(reason).split("; ")
    assert name == "siger"
    assert error.removeprefix("error=") in REGISTERED
    assert details == f'details="{reason}"'
    stream = Recorded()
    send_problem(stream, GatewayError(reason), request=asked(b"/"), request_id=b"i")  # type: ignore[arg-type]
    sent = stream.calls[0][1][1]  # type: ignore[index]
    assert sent[b"proxy-status"] == proxy_status(reason).encode()


def test_a_status_has_one_title() -> None:
    titles = {(row.status, row.title) for row in REASONS.values()}
    assert len(titles) == len({status for status, _ in titles})


def test_the_text_of_other_exceptions_is_not_in_the_document() -> None:
    try:
        try:
            raise OSError("10.1.2.3: secret")
        except OSError as failure:
            raise GatewayError("connect_failed") from failure
    except GatewayError as error:
        document = error.problem(instance="/", request_id="i")
    assert b"secret" not in document
    assert b"10.1.2.3" not in document


def test_detail_errors_and_extensions_stand_in_the_document() -> None:
    error = GatewayError(
        "invalid_fields",
        "Two fields.",
        errors=[{"field": "type", "detail": "is missing"}],
        headers={"Retry-After": "1"},
        extensions={"job_id": "7"},
    )
    document = json.loads(error.problem(instance="/x", request_id="i"))
    assert (document["detail"], document["job_id"]) == ("Two fields.", "7")
    assert document["errors"] == [{"field": "type", "detail": "is missing"}]
    stream = Recorded()
    send_problem(stream, error, request=asked(b"/x"), request_id=b"i")  # type: ignore[arg-type]
    assert stream.calls[0][1][1][b"retry-after"] == b"1"  # type: ignore[index]


def test_a_reason_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        GatewayError("nonsense")


def test_every_reason_written_in_the_code_is_in_the_table() -> None:
    sources = Path(siger_gateway.__file__).parent.rglob("*.py")
    used = set()
    for source in sources:
        used |= set(re.findall(r'(?:GatewayError|ProtocolError)\(\s*"(\w+)"', source.read_text()))
    assert used
    assert used <= set(REASONS)
