"""Who the client is, and which header fields travel on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from siger_gateway.http1.headers import HOP_BY_HOP, Headers, encode_head, end_to_end
from siger_gateway.http1.message import Request
from siger_gateway.proxy.forwarded import (
    NOT_FORWARDED,
    TrustedProxies,
    forwarding_headers,
    request_id,
)


@dataclass
class Connection:
    """What ``forwarding_headers`` asks of a connection."""

    peer: str = "10.0.0.9"
    scheme: bytes = b"http"


def request(*headers: tuple[bytes, bytes]) -> Request:
    return Request(b"GET", b"/", [(b"host", b"a"), *headers], True)


@pytest.mark.parametrize(
    ("peer", "chain", "client"),
    [
        ("1.1.1.1", [], "1.1.1.1"),
        ("1.1.1.1", [b"6.6.6.6"], "1.1.1.1"),
        ("10.0.0.9", [], "10.0.0.9"),
        ("10.0.0.9", [b"9.9.9.9"], "9.9.9.9"),
        ("10.0.0.9", [b"6.6.6.6, 9.9.9.9"], "9.9.9.9"),
        ("10.0.0.9", [b"6.6.6.6, 9.9.9.9, 10.0.0.8"], "9.9.9.9"),
        ("10.0.0.9", [b"6.6.6.6", b"9.9.9.9"], "9.9.9.9"),
        ("10.0.0.9", [b"10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ("10.0.0.9", [b"nonsense"], "10.0.0.9"),
        ("10.0.0.9", [b"6.6.6.6, nonsense, 10.0.0.8"], "10.0.0.8"),
        ("10.0.0.9", [b"2001:db8::1"], "2001:db8::1"),
        ("fd00::1", [b"9.9.9.9"], "9.9.9.9"),
        ("10.0.0.9", [b" , ,"], "10.0.0.9"),
        ("10.0.0.9", [b"\xff\xfe"], "10.0.0.9"),
        ("", [b"9.9.9.9"], ""),
    ],
)
def test_the_client_is_the_last_address_that_nobody_trusted_vouches_for(
    peer: str, chain: list[bytes], client: str
) -> None:
    trusted = TrustedProxies(("10.0.0.0/8", "fd00::/8"))
    headers = [(b"x-forwarded-for", value) for value in chain]
    assert trusted.client(request(*headers), peer) == client


def test_the_gateway_says_where_a_request_came_from() -> None:
    given = request((b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-proto", b"https"))
    said = dict(forwarding_headers(given, Connection(), b"id", None))
    assert said[b"x-forwarded-for"] == b"10.0.0.9"
    assert said[b"x-forwarded-proto"] == b"http"
    assert said[b"x-forwarded-host"] == b"a"
    version, trace, span, flags = said[b"traceparent"].split(b"-")
    assert (version, len(trace), len(span), flags) == (b"00", 32, 16, b"01")
    trusting = TrustedProxies(("10.0.0.9",))
    said = dict(forwarding_headers(given, Connection(), b"id", trusting))
    assert said[b"x-forwarded-for"] == b"6.6.6.6, 10.0.0.9"
    assert said[b"x-forwarded-proto"] == b"https"


def test_a_trace_that_exists_goes_on() -> None:
    given = request((b"traceparent", b"00-x"))
    assert b"traceparent" not in dict(forwarding_headers(given, Connection(), b"id", None))


def test_a_request_without_host_gets_one_for_the_service() -> None:
    given = Request(b"GET", b"/", [], True)
    assert (b"host", b"") in forwarding_headers(given, Connection(), b"id", None)


@pytest.mark.parametrize("sane", [b"a", b"0123-abc_DEF.~", b"x" * 128, b"Root=1-67/a:b@c+d="])
def test_a_sane_request_id_stays(sane: bytes) -> None:
    assert request_id({b"x-request-id": sane}) == sane


@pytest.mark.parametrize("odd", [b"", b" ", b"a b", b"x" * 129, b"\xe4", b"a\tb", b'a"b', b"a;b"])
def test_an_odd_request_id_is_replaced(odd: bytes) -> None:
    made = request_id({b"x-request-id": odd})
    assert len(made) == 32
    assert int(made, 16) >= 0


def travelling(headers: Headers) -> Headers:
    return end_to_end(headers, dict(headers), NOT_FORWARDED)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | {b"x-user-id", b"x-user-role", b"forwarded"}))
def test_what_is_not_for_the_service_stays_behind(name: bytes) -> None:
    assert travelling([(name, b"1"), (b"x", b"2")]) == [(b"x", b"2")]


@pytest.mark.parametrize(
    "connection", [[b"close, X-Inner"], [b"x-inner"], [b"keep-alive", b"X-INNER"], [b" x-inner ,,"]]
)
def test_fields_named_by_connection_stay_behind(connection: list[bytes]) -> None:
    options = [(b"connection", value) for value in connection]
    assert travelling([(b"x-inner", b"1"), *options, (b"y", b"2")]) == [(b"y", b"2")]


def test_connection_cannot_name_away_what_frames_the_message() -> None:
    kept: Headers = [(b"host", b"a"), (b"content-length", b"3")]
    assert travelling([*kept, (b"connection", b"host, content-length")]) == kept


def test_repeated_fields_keep_their_order() -> None:
    cookies: Headers = [(b"set-cookie", b"a"), (b"x", b"1"), (b"set-cookie", b"b")]
    assert travelling(cookies) == cookies
    assert encode_head(b"HTTP/1.1 200 OK", cookies) == (
        b"HTTP/1.1 200 OK\r\nset-cookie: a\r\nx: 1\r\nset-cookie: b\r\n\r\n"
    )
