"""CORS: what browsers are told, judged as a browser judges it; and what is no origin."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf, nan
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.cors_rules import cors_problem
from siger_gateway.config.policies import CorsConfig
from siger_gateway.errors import GatewayError
from siger_gateway.filters.cors import CORS_FIELDS, cors_filter
from siger_gateway.filters.filter import Call, Filter, Reply
from siger_gateway.filters.headers import merge_vary
from siger_gateway.http.headers import Headers, find_all
from siger_gateway.http.message import Request

NO_STREAM: Any = None  # these filters look at the request alone
APP = b"https://app.example.com"
EVIL = b"https://evil.test"
RULES = CorsConfig(
    ("https://app.example.com",), ("PUT", "PATCH"), ("Authorization", "X-Tag"), (), False, 300.0
)
OPEN = replace(RULES, origins=("*",))


def call_of(method: bytes, *headers: tuple[bytes, bytes]) -> Call:
    request = Request(method, b"/", [(b"host", b"api.test"), *headers], True)
    return Call(request, "192.0.2.1", b"https", NO_STREAM)


def actual(cors: Filter, *origins: bytes, method: bytes = b"GET") -> Headers:
    """What is added to the response to a request that passes."""
    call = call_of(method, *((b"origin", origin) for origin in origins))
    assert cors(call) is None
    return call.to_client


def preflight(
    cors: Filter, *origins: bytes, method: bytes = b"GET", names: bytes = b""
) -> tuple[int, Headers]:
    """Status and fields of the answer."""
    call = call_of(
        b"OPTIONS",
        *((b"origin", origin) for origin in origins),
        (b"access-control-request-method", method),
        *([(b"access-control-request-headers", names)] if names else []),
    )
    verdict = cors(call)
    if isinstance(verdict, Reply):
        return verdict.status, verdict.headers + call.to_client
    assert isinstance(verdict, GatewayError)
    assert verdict.reason == "origin_denied"
    return verdict.status, call.to_client


def shows(fields: Headers, origin: bytes, *, cookies: bool = False) -> bool:
    """Whether a browser shows the response to a page of ``origin`` (Fetch: "CORS check")."""
    allowed = find_all(fields, b"access-control-allow-origin")
    if allowed == [b"*"] and not cookies:
        return True
    if allowed != [origin]:
        return False
    return not cookies or find_all(fields, b"access-control-allow-credentials") == [b"true"]


def refusal(
    answer: tuple[int, Headers],
    origin: bytes,
    method: bytes,
    names: list[bytes],
    *,
    cookies: bool = False,
) -> bytes:
    """Why a browser does not send the request after this answer to its preflight; empty: it does
    (Fetch: "CORS-preflight fetch", step 7).

    :param names: those that are not safelisted, with their values.
    """
    status, fields = answer
    if not shows(fields, origin, cookies=cookies):
        return b"origin"
    if status not in range(200, 300):
        return b"status"
    methods = listed(fields, b"access-control-allow-methods")
    if method not in (b"GET", b"HEAD", b"POST", *methods) and (b"*" not in methods or cookies):
        return method
    allowed = [name.lower() for name in listed(fields, b"access-control-allow-headers")]
    for name in names:
        if name == b"authorization" and name not in allowed:
            return name
        if name not in allowed and (b"*" not in allowed or cookies):
            return name
    return b""


def listed(fields: Headers, name: bytes) -> list[bytes]:
    return [member.strip() for value in find_all(fields, name) for member in value.split(b",")]


# Requests.


def test_a_page_of_an_allowed_origin_may_read_the_response() -> None:
    fields = actual(cors_filter(replace(RULES, expose=("X-Total", "ETag"))), APP)
    assert fields == [
        (b"access-control-allow-origin", APP),
        (b"access-control-expose-headers", b"X-Total, ETag"),
        (b"vary", b"Origin"),
    ]


def test_a_request_of_another_origin_passes_but_its_page_may_not_read_the_response() -> None:
    assert actual(cors_filter(RULES), EVIL) == [(b"vary", b"Origin")]


def test_a_request_without_origin_passes_and_its_response_is_not_given_to_pages() -> None:
    assert actual(cors_filter(RULES)) == [(b"vary", b"Origin")]


def test_credentials_are_allowed_only_if_the_rules_say_so() -> None:
    assert not shows(actual(cors_filter(RULES), APP), APP, cookies=True)
    with_cookies = cors_filter(replace(RULES, credentials=True))
    assert shows(actual(with_cookies, APP), APP, cookies=True)
    assert actual(with_cookies, EVIL) == [(b"vary", b"Origin")]


@pytest.mark.parametrize("origins", [(), (EVIL,), (b"null",), (APP, EVIL)])
def test_what_everybody_may_read_is_the_same_for_all_so_caches_need_not_tell_them_apart(
    origins: tuple[bytes, ...],
) -> None:
    assert actual(cors_filter(OPEN), *origins) == [(b"access-control-allow-origin", b"*")]


@pytest.mark.parametrize("origins", [(APP, EVIL), (EVIL, APP), (APP, APP)])
def test_an_origin_that_comes_twice_is_not_allowed(origins: tuple[bytes, ...]) -> None:
    assert actual(cors_filter(RULES), *origins) == [(b"vary", b"Origin")]
    assert preflight(cors_filter(RULES), *origins)[0] == 403


def test_other_fields_may_come_twice() -> None:
    call = call_of(b"GET", (b"origin", APP), (b"cookie", b"a=1"), (b"cookie", b"b=2"))
    assert cors_filter(RULES)(call) is None
    assert shows(call.to_client, APP)


def test_options_that_is_no_preflight_goes_to_the_service() -> None:
    assert shows(actual(cors_filter(RULES), APP, method=b"OPTIONS"), APP)
    for rules in (RULES, OPEN):
        call = call_of(b"OPTIONS", (b"access-control-request-method", b"PUT"))
        assert cors_filter(rules)(call) is None


def test_a_get_that_looks_like_a_preflight_goes_to_the_service() -> None:
    for rules in (RULES, OPEN):
        call = call_of(b"GET", (b"origin", APP), (b"access-control-request-method", b"PUT"))
        assert cors_filter(rules)(call) is None


# Preflights.


@pytest.mark.parametrize(
    ("rules", "method", "names", "missing"),
    [
        (RULES, b"PUT", [], b""),
        (RULES, b"PATCH", [b"authorization", b"x-tag"], b""),
        (RULES, b"DELETE", [], b"DELETE"),
        (RULES, b"PUT", [b"x-other"], b"x-other"),
        (RULES, b"POST", [b"content-type"], b"content-type"),
        (replace(RULES, headers=("Content-Type",)), b"POST", [b"content-type"], b""),
        (replace(RULES, methods=(), headers=()), b"GET", [], b""),
        (replace(RULES, methods=(), headers=()), b"POST", [], b""),
        (replace(RULES, methods=(), headers=()), b"PUT", [], b"PUT"),
        (replace(RULES, methods=("*",)), b"DELETE", [], b""),
        (replace(RULES, headers=("*",)), b"PUT", [b"x-other"], b""),
        (replace(RULES, headers=("*",)), b"PUT", [b"authorization"], b"authorization"),
        (replace(RULES, headers=("*", "authorization")), b"PUT", [b"authorization"], b""),
        (OPEN, b"PUT", [b"x-tag"], b""),
        (OPEN, b"DELETE", [], b"DELETE"),
    ],
)
def test_a_browser_learns_what_it_may_send_and_can_name_what_it_may_not(
    rules: CorsConfig, method: bytes, names: list[bytes], missing: bytes
) -> None:
    answer = preflight(cors_filter(rules), APP, method=method, names=b",".join(names))
    assert answer[0] == 204
    assert refusal(answer, APP, method, names) == missing


def test_the_answer_to_a_preflight_is_all_that_is_allowed() -> None:
    assert preflight(cors_filter(replace(RULES, credentials=True)), APP) == (
        204,
        [
            (b"access-control-allow-origin", APP),
            (b"access-control-allow-credentials", b"true"),
            (b"access-control-allow-methods", b"PUT, PATCH"),
            (b"access-control-allow-headers", b"Authorization, X-Tag"),
            (b"access-control-max-age", b"300"),
            (
                b"vary",
                b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        ],
    )


@pytest.mark.parametrize("names", [b",,", b"\xff", b"x" * 9000, b"a, b\t,c d"])
def test_what_a_preflight_asks_for_never_comes_back(names: bytes) -> None:
    plain = preflight(cors_filter(RULES), APP)
    assert preflight(cors_filter(RULES), APP, method=b"A,B", names=names) == plain


@pytest.mark.parametrize("origin", [EVIL, b"null", b"", b"*", APP.upper(), APP + b"/"])
def test_a_preflight_from_another_origin_is_refused_and_says_nothing_of_what_is_allowed(
    origin: bytes,
) -> None:
    status, fields = preflight(cors_filter(RULES), origin)
    assert status == 403
    assert [name for name, _ in fields] == [b"vary"]


@pytest.mark.parametrize(("max_age", "value"), [(0.0, b"0"), (0.9, b"0"), (86400.0, b"86400")])
def test_how_long_an_answer_holds_is_in_whole_seconds(max_age: float, value: bytes) -> None:
    _, fields = preflight(cors_filter(replace(RULES, max_age=max_age)), APP)
    assert find_all(fields, b"access-control-max-age") == [value]


def test_answers_share_nothing_that_their_receiver_could_change() -> None:
    for rules in (RULES, OPEN):
        cors = cors_filter(rules)
        before = preflight(cors, APP), actual(cors, APP)
        preflight(cors, APP)[1].clear()
        actual(cors, APP).clear()
        verdict = cors(
            call_of(b"OPTIONS", (b"origin", APP), (b"access-control-request-method", b"PUT"))
        )
        assert isinstance(verdict, Reply)
        verdict.headers.clear()
        assert (preflight(cors, APP), actual(cors, APP)) == before


# Origins.


@pytest.mark.parametrize(
    ("configured", "origin", "allowed"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://app.example.com.", False),
        ("https://app.example.com", "https://appxexample.com", False),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("https://app.example.com", "null", False),
        ("null", "null", True),
        ("https://*.example.com", "null", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b-c.d_e.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://a..example.com", False),
        ("https://*.example.com", "https://evil-example.com", False),
        ("https://*.example.com", "https://a.examplexcom", False),
        ("https://*.example.com", "https://a.example.com.evil.org", False),
        ("https://*.example.com", "https://evil.org/.example.com", False),
        ("https://*.example.com", "https://evil.org#.example.com", False),
        ("https://*.example.com", "https://evil.org:80.example.com", False),
        ("https://*.example.com", "https://user@a.example.com", False),
        ("https://*.example.com", "https://evil.org\n.example.com", False),
        ("https://*.example.com", "https://a.example.com\n", False),
        ("https://*.example.com", "https://*.example.com", False),
        ("https://*.example.com", "http://abc.example.com", False),
        ("https://*.example.com", "https://a.example.com:8443", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*.example.com:8443", "https://a.example.com", False),
        ("https://*.example.com", "https://A.example.com", False),
        ("https://*.example.com", "https://example.com.example.com", True),
        ("https://*.example.com", "https://.a.example.com", False),
        ("https://*.example.com", "https:/.example.com", False),
        ("a.b://*.example.com", "a.example.com", False),
    ],
)
def test_an_origin_is_allowed_if_it_is_configured_or_ends_as_a_pattern_does(
    configured: str, origin: str, allowed: bool
) -> None:
    cors = cors_filter(replace(RULES, origins=(configured,)))
    assert shows(actual(cors, origin.encode()), origin.encode()) is allowed


def test_the_parts_of_several_patterns_are_not_mixed() -> None:
    cors = cors_filter(replace(RULES, origins=("https://*.a.test", "http://*.b.test")))
    for origin in (b"https://xyz.a.test", b"http://xyz.b.test"):
        assert shows(actual(cors, origin), origin)
    for origin in (b"http://xyz.a.test", b"https://xyz.b.test"):
        assert not shows(actual(cors, origin), origin)


LABELS = st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SCHEMES = st.sampled_from(["https", "http", "capacitor"])
PORTS = st.sampled_from(["", ":8443", ":1"])
CONFIGURED = st.tuples(SCHEMES, st.sampled_from(["", "*."]), HOSTS, PORTS)
ODD = st.text("a.-:/@#?\\*%\n\t [],", max_size=6)


@given(st.lists(CONFIGURED, min_size=1, max_size=4), st.data())
def test_no_origin_is_allowed_whose_scheme_host_and_port_are_not_configured(
    configured: list[tuple[str, str, str, str]], data: st.DataObject
) -> None:
    """The oracle takes origins apart, in place of matching them."""
    origins = tuple("{}://{}{}{}".format(scheme, *rest) for scheme, *rest in configured)
    scheme, _, host, port = data.draw(st.one_of(st.sampled_from(configured), CONFIGURED))
    odd = data.draw(st.one_of(st.just(""), HOSTS.map("{}.".format), ODD))
    tail = data.draw(st.one_of(st.just(""), ODD))
    origin = f"{scheme}://{odd}{host}{tail}{port}"
    cors = cors_filter(replace(RULES, origins=origins))
    if shows(actual(cors, origin.encode()), origin.encode()):
        assert any(covers(one, origin) for one in configured)
        assert re.fullmatch(r"[a-z0-9:/._-]+", origin)
    elif not odd and not tail:
        assert not any(covers(one, origin) for one in configured)


def covers(configured: tuple[str, str, str, str], origin: str) -> bool:
    scheme, star, host, port = configured
    parts = urlsplit(origin)
    if parts.scheme != scheme or (f":{parts.port}" if parts.port else "") != port:
        return False
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return False
    theirs, ours = (parts.hostname or "").split("."), host.split(".")
    if not star:
        return theirs == ours
    return len(theirs) > len(ours) and theirs[-len(ours) :] == ours


# Rules.


def test_good_rules_have_no_problem() -> None:
    origins = (
        *("https://app.example.com", "https://*.example.com", "http://*.localhost:3000"),
        *("http://127.0.0.1:8080", "http://[2001:db8::1]", "chrome-extension://abcdef", "null"),
        *("https://example.com:80", "http://example.com:443", "https://xn--bcher-kva.example"),
    )
    assert cors_problem(replace(RULES, origins=origins, methods=("OPTIONS", "*"))) == ""
    assert cors_problem(replace(RULES, credentials=True)) == ""
    assert cors_problem(replace(OPEN, methods=("*",), headers=("*",), expose=("*",))) == ""


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (replace(OPEN, credentials=True), "origins: "),
        (replace(RULES, credentials=True, methods=("*",)), "methods: "),
        (replace(RULES, credentials=True, headers=("*", "X-Tag")), "headers: "),
        (replace(RULES, credentials=True, expose=("*",)), "expose: "),
        (replace(RULES, credentials=True, origins=("null",)), 'origins: "null"'),
        (replace(RULES, origins=()), "origins: name at least one"),
        (replace(RULES, origins=("*", "https://a.test")), "origins: "),
        (replace(RULES, methods=("TRACE",)), 'methods: "TRACE"'),
        (replace(RULES, methods=("CONNECT",)), 'methods: "CONNECT"'),
        (replace(RULES, methods=("TRACK",)), 'methods: "TRACK"'),
        (replace(RULES, methods=("patch",)), 'methods: "patch"'),
        (replace(RULES, methods=("PUT, GET",)), 'methods: "PUT, GET"'),
        (replace(RULES, headers=("X Tag",)), 'headers: "X Tag"'),
        (replace(RULES, headers=("",)), 'headers: ""'),
        (replace(RULES, expose=("x\r\ny: z",)), "expose: "),
        (replace(RULES, expose=("\ud800",)), "expose: "),
        (replace(RULES, max_age=-1.0), "max_age: "),
        (replace(RULES, max_age=nan), "max_age: "),
        (replace(RULES, max_age=inf), "max_age: "),
    ],
)
def test_bad_rules_are_named_and_make_no_filter(rules: CorsConfig, said: str) -> None:
    assert cors_problem(rules).startswith(said)
    with pytest.raises(ValueError, match=re.escape(said)):
        cors_filter(rules)


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("https://a.test/", 'ends with its host or port: "https://a.test"'),
        ("https://a.test/path", 'ends with its host or port: "https://a.test"'),
        ("https://a.test?x", 'ends with its host or port: "https://a.test"'),
        ("https://A.test", 'lower case: "https://a.test"'),
        ("HTTPS://a.test", 'lower case: "https://a.test"'),
        ("https://a.test:443", 'default port out: "https://a.test"'),
        ("http://a.test:80", 'default port out: "http://a.test"'),
        ("http://*.a.test:80", 'default port out: "http://*.a.test"'),
        ("a.test", 'scheme is missing: "https://a.test"'),
        ("*.a.test", 'scheme is missing: "https://*.a.test"'),
        ("https://bücher.test", "Punycode"),
        ("https://", "an origin is like"),
        ("file://", "an origin is like"),
        ("https://*", "an origin is like"),
        ("https://*a.test", "an origin is like"),
        ("https://a.*.test", "an origin is like"),
        ("*://a.test", "an origin is like"),
        ("https://a.test.", "an origin is like"),
        ("https://a..test", "an origin is like"),
        ("https://a.test:0", "an origin is like"),
        ("https://a.test:08", "an origin is like"),
        ("https://a.test:65536", "an origin is like"),
        ("https://a.test:*", "an origin is like"),
        ("https://user@a.test", "an origin is like"),
        ("https://a.test\n", "an origin is like"),
        ("https://a.test, https://b.test", "ends with its host or port"),
        ("http://[::0:1]", "an origin is like"),
        ("http://[1.2.3.4]", "an origin is like"),
        ("", "scheme is missing"),
    ],
)
def test_an_origin_that_no_browser_sends_is_a_problem_and_the_right_one_is_named(
    origin: str, said: str
) -> None:
    assert said in cors_problem(replace(RULES, origins=(origin,)))


NAMES = st.sampled_from(["*", "X-Tag", "PUT", "https://a.test", "null"])
LISTS = st.lists(NAMES, max_size=3).map(tuple)


@given(LISTS, LISTS, LISTS, LISTS)
def test_credentials_never_go_with_an_asterisk(
    origins: tuple[str, ...],
    methods: tuple[str, ...],
    headers: tuple[str, ...],
    expose: tuple[str, ...],
) -> None:
    rules = CorsConfig(origins, methods, headers, expose, True, 0.0)
    if cors_problem(rules):
        return
    cors = cors_filter(rules)
    for origin in (b"https://a.test", b"null", EVIL):
        fields = actual(cors, origin)
        call = call_of(b"OPTIONS", (b"origin", origin), (b"access-control-request-method", b"PUT"))
        verdict = cors(call)
        if isinstance(verdict, Reply):
            fields = fields + verdict.headers
        assert not [field for field in fields if b"*" in field[1]]


# The service's own fields.


@pytest.mark.parametrize(
    ("headers", "added", "vary"),
    [
        ([], [], []),
        ([b"Accept"], [], [b"Accept"]),
        ([], [b"Origin"], [b"Origin"]),
        ([b"Accept-Encoding"], [b"Origin"], [b"Accept-Encoding, Origin"]),
        ([b"origin"], [b"Origin"], [b"origin"]),
        ([b"Accept,ORIGIN , Cookie"], [b"Origin"], [b"Accept, ORIGIN, Cookie"]),
        ([b"A", b"B, a,,"], [b"Origin"], [b"A, B, Origin"]),
        ([b"*"], [b"Origin"], [b"*"]),
        ([b"Accept, *"], [b"Origin"], [b"*"]),
        ([b""], [b"Origin"], [b"Origin"]),
    ],
)
def test_vary_says_what_both_the_service_and_the_gateway_say(
    headers: list[bytes], added: list[bytes], vary: list[bytes]
) -> None:
    theirs = [(b"etag", b"1"), *((b"vary", value) for value in headers), (b"x", b"y")]
    ours = [(b"access-control-allow-origin", b"*"), *((b"vary", value) for value in added)]
    before = [*theirs], [*ours]
    merged = merge_vary(theirs, ours)
    assert find_all(merged, b"vary") == vary
    assert [field for field in merged if field[0] != b"vary"] == [
        (b"etag", b"1"),
        (b"x", b"y"),
        (b"access-control-allow-origin", b"*"),
    ]
    assert (theirs, ours) == before


def test_every_field_that_the_gateway_answers_with_is_taken_from_services() -> None:
    for rules in (replace(RULES, credentials=True, expose=("ETag",)), OPEN):
        cors = cors_filter(rules)
        for name, _ in actual(cors, APP) + preflight(cors, APP)[1]:
            assert name.decode() in CORS_FIELDS or name == b"vary"
