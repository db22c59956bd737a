"""Who the client is, and which header fields travel on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given as given_values
from hypothesis import strategies as st

from siger_gateway.http.headers import HOP_BY_HOP, Headers, encode_head, end_to_end, is_token
from siger_gateway.http.message import Request
from siger_gateway.proxy import forwarded, forwarded_field
from siger_gateway.proxy.forwarded import (
    NOT_FORWARDED,
    TrustedProxies,
    forwarded_trailers,
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
        ("10.0.0.9", [b"9.9.9.9:5678"], "9.9.9.9"),
        ("10.0.0.9", [b"[2001:db8::1]:5678"], "2001:db8::1"),
        ("10.0.0.9", [b"9.9.9.9, ::ffff:10.0.0.8"], "9.9.9.9"),
        ("10.0.0.9", [b"nonsense"], "10.0.0.9"),
        ("10.0.0.9", [b'fe80::1%x]";host=evil'], "10.0.0.9"),
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


TRUSTED = TrustedProxies(("10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:db8::7"))


def for_the_service(
    given: Request, peer: str, trusted: TrustedProxies | None = TRUSTED
) -> dict[bytes, list[bytes]]:
    """What a service is told, as ``Exchange`` puts it together."""
    headers = end_to_end(given.headers, given.fields, NOT_FORWARDED)
    headers += forwarding_headers(given, Connection(peer), request_id(given.fields), trusted)
    return {name: [value for key, value in headers if key == name] for name, _ in headers}


CLAIMS: Headers = [
    (b"x-forwarded-for", b"6.6.6.6"),
    (b"x-forwarded-for", b"127.0.0.1, 10.0.0.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil"),
    (b"x-forwarded-port", b"1"),
    (b"x-real-ip", b"127.0.0.1"),
    (b"forwarded", b"for=127.0.0.1;proto=https"),
    (b"x-user-id", b"admin"),
    (b"x-user-id", b"root"),
    (b"x-user-role", b"admin"),
    (b"x_user_id", b"admin"),
    (b"x-user_id", b"admin"),
    (b"x_user-role", b"admin"),
    (b"x_forwarded_for", b"127.0.0.1"),
    (b"x-forwarded_for", b"127.0.0.1"),
    (b"x_forwarded-proto", b"https"),
    (b"x_forwarded_host", b"evil"),
    (b"x_real_ip", b"127.0.0.1"),
    (b"x_request_id", b"theirs"),
    (b"proxy-authorization", b"Basic x"),
    (b"proxy-connection", b"keep-alive"),
    (b"te", b"gzip"),
    (b"keep-alive", b"timeout=5"),
    (b"expect", b"100-continue"),
    (b"upgrade", b"websocket"),
    (b"http2-settings", b"x"),
]


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0].decode())
@pytest.mark.parametrize("peer", ["203.0.113.5", "2001:db8::5", "10.0.0.1", ""])
def test_what_only_the_gateway_may_say_is_not_taken_from_a_client(
    claim: tuple[bytes, bytes], peer: str
) -> None:
    name, value = claim
    told = for_the_service(request((name, value), (b"x-own", b"kept")), peer, None)
    said = {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
    assert told[b"x-own"] == [b"kept"]
    assert (name in told) == (name in said | {b"forwarded"})
    assert value not in told.get(name, [])
    assert told[b"x-forwarded-for"] == [peer.encode()]


def test_all_claims_at_once_from_a_stranger_leave_no_trace() -> None:
    told = for_the_service(request(*CLAIMS), "203.0.113.5")
    own = {b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"via"}
    assert set(told) == own | {b"x-request-id", b"traceparent", b"forwarded"}
    assert told[b"forwarded"] == [b"for=203.0.113.5;proto=http;host=a"]
    assert all(len(values) == 1 for values in told.values())
    assert told[b"x-forwarded-for"] == [b"203.0.113.5"]
    assert told[b"x-forwarded-host"] == [b"a"]


def test_connection_cannot_name_away_what_the_gateway_says() -> None:
    names = b"x-forwarded-for, x-request-id, via, traceparent, x-forwarded-host, host"
    told = for_the_service(request((b"connection", names)), "203.0.113.5")
    for name in names.split(b", "):
        assert len(told[name]) == 1


def test_a_trusted_proxy_is_believed_about_the_client_and_never_about_the_user() -> None:
    told = for_the_service(request(*CLAIMS), "10.0.0.9")
    assert told[b"x-forwarded-for"] == [b"6.6.6.6, 127.0.0.1, 10.0.0.1, 10.0.0.9"]
    assert told[b"x-forwarded-proto"] == [b"https"]
    assert told[b"x-forwarded-host"] == [b"evil"]
    theirs = b"for=6.6.6.6;proto=https;host=evil, for=127.0.0.1, for=10.0.0.1"
    assert told[b"forwarded"] == [theirs + b", for=10.0.0.9;proto=http;host=a"]
    for name in (b"x-user-id", b"x_user_id", b"x-user-role", b"x-real-ip"):
        assert name not in told


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("9.255.255.255", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd00::1", True),
        ("FD00::1", True),
        ("fe00::1", False),
        ("2001:db8:0:0:0:0:0:7", True),
        ("2001:db8::8", False),
        ("::1", False),
        ("", False),
        ("unix:", False),
        ("10.0.0.1:80", False),
        ("10.0.0", False),
        ("010.0.0.1", False),
        ("0x0a000001", False),
        (" 10.0.0.1", False),
        ("10.0.0.1\n", False),
    ],
)
def test_who_is_trusted(address: str, trusted: bool) -> None:
    assert (address in TRUSTED) is trusted
    assert (address in TRUSTED) is trusted  # as remembered


def test_strangers_do_not_fill_the_memory() -> None:
    proxies = TrustedProxies(("10.0.0.0/8",))
    for number in range(10_000):
        assert f"203.0.{number >> 8}.{number & 255}" not in proxies
    assert len(proxies._known) <= 4096
    assert "10.1.2.3" in proxies


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ([b"1.2.3.4:5678"], "1.2.3.4"),
        ([b"[2001:db8::1]:80"], "2001:db8::1"),
        ([b"2001:DB8:0::1"], "2001:db8::1"),
        ([b"unknown"], "10.0.0.9"),
        ([b"_hidden, 9.9.9.9"], "9.9.9.9"),
        ([b"127.0.0.1, 9.9.9.9, fd00::2, 192.0.2.7"], "9.9.9.9"),
        ([b"9.9.9.9;evil"], "10.0.0.9"),
        ([b"9.9.9.9\x00"], "10.0.0.9"),
        ([b"9.9.9.9,"], "9.9.9.9"),
        ([b"", b"9.9.9.9"], "9.9.9.9"),
        ([b"999.1.1.1"], "10.0.0.9"),
        ([b"9.9.9.9, 10.0.0.1, 8.8.8.8, 10.0.0.2"], "8.8.8.8"),
        ([b"9.9.9.9," * 2000 + b"10.0.0.1"], "9.9.9.9"),
    ],
)
def test_the_client_behind_trusted_proxies(chain: list[bytes], client: str) -> None:
    headers = [(b"x-forwarded-for", value) for value in chain]
    assert TRUSTED.client(request(*headers), "10.0.0.9") == client
    assert TRUSTED.client(request(*headers), "203.0.113.5") == "203.0.113.5"


@pytest.mark.parametrize(
    "odd",
    [b"a\r\nx: y", b"a\x00", b"<script>", b"a,b", b"a'b", b"../x?y", b"{}", b"\x7f", b"a\x1b"],
)
def test_an_id_that_could_break_a_log_or_a_header_is_replaced(odd: bytes) -> None:
    told = for_the_service(request((b"x-request-id", odd)), "10.0.0.9")
    assert told[b"x-request-id"] != [odd]
    assert is_token(told[b"x-request-id"][0])


def test_new_ids_differ() -> None:
    assert len({request_id({}) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name", [b"host", b"content-length", b"x-user-id", b"x_user_id", b"authorization", b"te"]
)
def test_trailers_cannot_say_what_only_the_head_may_say(name: bytes) -> None:
    kept: Headers = [(b"grpc-status", b"0"), (b"digest", b"x"), (b"x-checksum", b"1")]
    assert forwarded_trailers([kept[0], (name, b"1"), *kept[1:], (name, b"2")]) == kept


TRUSTED_PEER = "10.0.0.9"


@pytest.mark.parametrize(
    ("said", "forwarded_for", "scheme", "host", "field"),
    [
        ([], b"10.0.0.9", b"http", b"a", b"for=10.0.0.9;proto=http;host=a"),
        (
            [(b"forwarded", b'for="[2001:db8::1]:80";proto=HTTPS;host="b:81"')],
            b"2001:db8::1, 10.0.0.9",
            b"https",
            b"b:81",
            b'for="[2001:db8::1]:80";proto=HTTPS;host="b:81", for=10.0.0.9;proto=http;host=a',
        ),
        (
            [(b"forwarded", b"for=9.9.9.9"), (b"forwarded", b"for=10.0.0.8;by=_x")],
            b"9.9.9.9, 10.0.0.8, 10.0.0.9",
            b"http",
            b"a",
            b"for=9.9.9.9, for=10.0.0.8;by=_x, for=10.0.0.9;proto=http;host=a",
        ),
        (
            [(b"x-forwarded-for", b"2001:db8::1, nonsense"), (b"x-forwarded-proto", b"https")],
            b"2001:db8::1, nonsense, 10.0.0.9",
            b"https",
            b"a",
            b'for="[2001:db8::1]";proto=https;host=a, for=unknown, for=10.0.0.9;proto=http;host=a',
        ),
        (
            [(b"x-forwarded-proto", b"HTTPS, http"), (b"x-forwarded-host", b"b, c")],
            b"10.0.0.9",
            b"https",
            b"b",
            b"for=10.0.0.9;proto=http;host=a",
        ),
        (
            [(b"x-forwarded-proto", b"javascript"), (b"x-forwarded-host", b"b/<script>")],
            b"10.0.0.9",
            b"http",
            b"a",
            b"for=10.0.0.9;proto=http;host=a",
        ),
        (
            [(b"forwarded", b'for="6.6.6.6, 10.0.0.8", for=_hidden, for=8.8.8.8')],
            b"unknown, unknown, 8.8.8.8, 10.0.0.9",
            b"http",
            b"a",
            b'for="6.6.6.6, 10.0.0.8", for=_hidden, for=8.8.8.8, for=10.0.0.9;proto=http;host=a',
        ),
        (  # a proxy that maintains X-Forwarded-Proto alone has passed the rest on from a client
            [(b"forwarded", b"for=6.6.6.6;proto=https;host=evil"), (b"x-forwarded-proto", b"http")],
            b"10.0.0.9",
            b"http",
            b"a",
            b"for=10.0.0.9;proto=http;host=a",
        ),
        (
            [(b"forwarded", b"for=9.9.9.9;proto=x y"), (b"forwarded", b"for=8.8.8.8")],
            b"10.0.0.9",
            b"http",
            b"a",
            b"for=10.0.0.9;proto=http;host=a",
        ),
    ],
)
def test_what_a_trusted_proxy_says_is_added_to(
    said: Headers, forwarded_for: bytes, scheme: bytes, host: bytes, field: bytes
) -> None:
    told = for_the_service(request(*said), TRUSTED_PEER)
    assert told[b"x-forwarded-for"] == [forwarded_for]
    assert told[b"x-forwarded-proto"] == [scheme]
    assert told[b"x-forwarded-host"] == [host]
    assert told[b"forwarded"] == [field]


@pytest.mark.parametrize(
    ("field", "client"),
    [
        (b"for=9.9.9.9", "9.9.9.9"),
        (b'for="9.9.9.9:5678"', "9.9.9.9"),
        (b'for="[2001:db8::1]:80"', "2001:db8::1"),
        (b"for=6.6.6.6, for=9.9.9.9, for=10.0.0.8", "9.9.9.9"),
        (b"for=6.6.6.6, for=_hidden, for=10.0.0.8", "10.0.0.8"),
        (b"for=6.6.6.6, for=unknown", TRUSTED_PEER),
        (b"for=6.6.6.6, proto=https", TRUSTED_PEER),
        (b"for=6.6.6.6;for=7.7.7.7", TRUSTED_PEER),
        (b"6.6.6.6", TRUSTED_PEER),
        (b"", TRUSTED_PEER),
    ],
)
def test_the_client_is_found_in_forwarded_too(field: bytes, client: str) -> None:
    given = request((b"forwarded", field))
    assert TRUSTED.client(given, TRUSTED_PEER) == client
    assert TRUSTED.client(given, "203.0.113.5") == "203.0.113.5"


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"])
def test_a_forwarded_beside_the_usual_fields_is_a_clients_claim(name: bytes) -> None:
    given = request((b"forwarded", b"for=6.6.6.6"), (name, b"9.9.9.9"))
    expected = "9.9.9.9" if name == b"x-forwarded-for" else TRUSTED_PEER
    assert TRUSTED.client(given, TRUSTED_PEER) == expected
    assert b"6.6.6.6" not in b"".join(for_the_service(given, TRUSTED_PEER)[b"forwarded"])


@pytest.mark.parametrize(
    ("peer", "host", "field"),
    [
        ("2001:db8::1", b"a", b'for="[2001:db8::1]";proto=http;host=a'),
        ("1.2.3.4", b"a:80", b'for=1.2.3.4;proto=http;host="a:80"'),
        ("1.2.3.4", b"[::1]", b'for=1.2.3.4;proto=http;host="[::1]"'),
        ("1.2.3.4", b"a(b)", b'for=1.2.3.4;proto=http;host="a(b)"'),
        ("1.2.3.4", b"", b"for=1.2.3.4;proto=http"),
        ("", b"a", b"for=unknown;proto=http;host=a"),
    ],
)
def test_what_is_no_token_stands_in_quotes(peer: str, host: bytes, field: bytes) -> None:
    given = Request(b"GET", b"/", [(b"host", host)], True)
    told = for_the_service(given, peer)
    assert told[b"forwarded"] == [field]
    (read,) = forwarded_field.parse([field])
    assert read[b"for"].strip(b"[]").decode() == (peer or "unknown")
    assert read.get(b"host", b"") == host


@given_values(st.lists(st.text('a=;,"\\ \t:[]', max_size=12), max_size=3))
def test_reading_forwarded_raises_nothing(values: list[str]) -> None:
    for one in forwarded_field.parse([value.encode() for value in values]):
        assert all(is_token(name) and b'"' not in value for name, value in one.items())


def test_hosts_that_strangers_ask_for_do_not_fill_the_memory() -> None:
    for number in range(3 * forwarded.MAX_ORIGINS):
        for_the_service(Request(b"GET", b"/", [(b"host", b"h%d" % number)], True), "1.2.3.4")
    for_the_service(Request(b"GET", b"/", [(b"host", 300 * b"h")], True), "1.2.3.4")
    assert len(forwarded._origins) <= forwarded.MAX_ORIGINS
    assert all(len(host) <= forwarded.MAX_HOST for _, _, host in forwarded._origins)


@pytest.mark.parametrize(
    ("via", "looped"),
    [
        (["1.1 siger"] * 10, False),
        (["1.1 siger"] * 11, True),
        (["1.1 siger, 1.0 fred"] * 11, True),
        ([", ".join(["1.1 siger"] * 11)], True),
        (["1.1 fred"] * 20, False),
        (["1.1 notsiger, 1.1 siger.example"] * 20, False),
    ],
)
def test_a_request_that_comes_by_again_and_again_is_a_loop(via: list[str], looped: bool) -> None:
    given = request(*((b"via", value.encode()) for value in via))
    assert forwarded.has_looped(given) is looped


def test_via_says_in_which_version_the_request_came() -> None:
    given = request()
    given.http10 = True
    assert for_the_service(given, "1.2.3.4")[b"via"] == [b"1.0 siger"]
