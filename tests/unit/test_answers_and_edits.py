"""What routes do without a service, and to header fields: pure decisions, no sockets."""

from __future__ import annotations

import random
from collections import Counter
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config import actions
from siger_gateway.config.schema import (
    DirectResponseConfig,
    HeaderEdits,
    HeadersConfig,
    MatchConfig,
    RedirectConfig,
    RouteConfig,
    ServiceConfig,
)
from siger_gateway.filters.headers import IDENTITY_FIELDS
from siger_gateway.http.headers import HOP_BY_HOP, Headers, end_to_end
from siger_gateway.http.message import Request
from siger_gateway.proxy.answer import compile_reply
from siger_gateway.proxy.edits import compile_edits
from siger_gateway.proxy.exchange import NOT_RETURNED
from siger_gateway.proxy.forwarded import NOT_FORWARDED
from siger_gateway.proxy.route import Split
from siger_gateway.routing.path import normalize
from siger_gateway.routing.rewrite import path_rewrite
from siger_gateway.routing.table import RouteTable
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster


def location(
    redirect: RedirectConfig,
    target: bytes,
    *,
    match: MatchConfig | None = None,
    scheme: bytes = b"http",
    host: bytes = b"gateway.test:8080",
) -> str | None:
    path = normalize(target.partition(b"?")[0])
    assert path is not None
    route = RouteConfig("r", match or MatchConfig(path_prefix="/old"), redirect=redirect)
    request = Request(b"GET", target, [(b"host", host)], True)
    reply = compile_reply(route, None).head(request, path, scheme, host)
    return None if reply is None else dict(reply[1])[b"location"].decode("latin-1")


@pytest.mark.parametrize(
    ("redirect", "target", "expected"),
    [
        (RedirectConfig("https"), b"/old/x?q=1", "https://gateway.test/old/x?q=1"),
        (RedirectConfig("https", port=8443), b"/old", "https://gateway.test:8443/old"),
        (RedirectConfig("https", port=443), b"/old", "https://gateway.test/old"),
        (RedirectConfig(host="h.test"), b"/old", "http://h.test/old"),
        (RedirectConfig(port=81), b"/old", "http://gateway.test:81/old"),
        (RedirectConfig("https", "h.test", 1, prefix="/n"), b"/old/x", "https://h.test:1/n/x"),
        (RedirectConfig(path="/new"), b"/old/x?q", "/new?q"),
        (RedirectConfig(path="/new", strip_query=True), b"/old/x?q", "/new"),
        (RedirectConfig(prefix="/new"), b"/old/x%2F?q", "/new/x%2F?q"),
        (RedirectConfig(prefix="/new"), b"/old", "/new"),
        (RedirectConfig(prefix="/"), b"/old", "/"),
        (RedirectConfig(prefix="/"), b"/old/x", "/x"),
    ],
)
def test_a_redirect_changes_what_the_route_names_and_keeps_the_rest(
    redirect: RedirectConfig, target: bytes, expected: str
) -> None:
    assert location(redirect, target) == expected


def test_a_redirect_may_use_the_names_of_its_path() -> None:
    match = MatchConfig(path="/users/{id}")
    assert location(RedirectConfig(path="/p/{id}/x"), b"/users/a%2Fb?q", match=match) == (
        "/p/a%2Fb/x?q"
    )


def test_a_redirect_to_another_scheme_needs_a_host_from_somewhere() -> None:
    assert location(RedirectConfig("https"), b"/old", host=b"") is None
    assert location(RedirectConfig("https"), b"/old", host=b"a.test/evil?") is None
    assert location(RedirectConfig("https", "h.test"), b"/old", host=b"") == "https://h.test/old"
    assert location(RedirectConfig(path="/new"), b"/old", host=b"") == "/new"
    assert location(RedirectConfig("https"), b"/old", host=b"[::1]:80") == "https://[::1]/old"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/old//evil.test/x", "/evil.test/x"),
        (b"/old///evil.test", "/evil.test"),
        (b"/old/\xe9<>", "/%E9%3C%3E"),
        (b"//old/x", "/x"),
    ],
)
def test_a_stripped_path_does_not_become_another_host(target: bytes, expected: str) -> None:
    assert location(RedirectConfig(prefix="/"), target) == expected


TARGETS = st.text("/\\.:@?#ab%2F5c\t\r\n é;", max_size=12).map(lambda text: text.encode("latin-1"))


@given(
    TARGETS,
    st.sampled_from(
        [
            RedirectConfig(prefix="/"),
            RedirectConfig(prefix="/new"),
            RedirectConfig(path="/new"),
            RedirectConfig(prefix="/", strip_query=True),
            RedirectConfig("https", "h.test"),
        ]
    ),
)
def test_a_location_never_leads_to_a_host_that_the_route_does_not_name(
    rest: bytes, redirect: RedirectConfig
) -> None:
    target = b"/old" + rest
    if rest[:1] not in (b"", b"/", b"?") or normalize(target.partition(b"?")[0]) is None:
        return
    found = location(redirect, target)
    assert found is not None
    # As browsers read it (WHATWG URL): white space inside is dropped, a backslash is a slash.
    seen = "".join(one for one in found if one not in "\t\r\n").replace("\\", "/")
    assert seen == found
    assert urlsplit(seen).netloc == redirect.host
    assert redirect.host or (seen[0] == "/" and seen[1:2] != "/")


def test_a_redirect_keeps_the_method_and_is_not_permanent_unless_told_so() -> None:
    route = RouteConfig("r", MatchConfig(path="/a"), redirect=RedirectConfig(path="/b"))
    reply = compile_reply(route, None).head(Request(b"POST", b"/a", [], True), b"/a", b"http", b"h")
    assert reply == (307, [(b"location", b"/b"), (b"content-length", b"0")], b"")


@pytest.mark.parametrize(
    ("config", "headers"),
    [
        (
            DirectResponseConfig(200, "é\n"),
            [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"3")],
        ),
        (DirectResponseConfig(204), []),
        (DirectResponseConfig(304), []),
        (DirectResponseConfig(205), [(b"content-length", b"0")]),
    ],
)
def test_a_direct_response_says_its_length_where_there_can_be_one(
    config: DirectResponseConfig, headers: Headers
) -> None:
    route = RouteConfig("r", MatchConfig(path="/a"), direct_response=config)
    request = Request(b"GET", b"/a", [], True)
    found = compile_reply(route, None).head(request, b"/a", b"http", b"h")
    assert found == (config.status, headers, config.body.encode())


# Header edits


def test_edits_set_add_and_remove_and_keep_the_order_of_the_rest() -> None:
    edits = compile_edits(
        HeaderEdits({"x-env": "prod"}, {"accept": "b", "x-new": "n"}, ("cookie", "x-env2"))
    )
    assert edits is not None
    headers = [(b"host", b"h"), (b"x-env", b"1"), (b"cookie", b"c"), (b"accept", b"a")]
    headers += [(b"x-env", b"2"), (b"cookie", b"d")]
    before = [*headers]
    assert edits.apply(headers) == [
        (b"host", b"h"),
        (b"accept", b"a"),
        (b"x-env", b"prod"),
        (b"accept", b"b"),
        (b"x-new", b"n"),
    ]
    assert headers == before


@pytest.mark.parametrize("spelling", [b"x-is-admin", b"x_is_admin", b"x_is-admin", b"x-is_admin"])
@pytest.mark.parametrize("name", ["x-is-admin", "x_is_admin"])
def test_a_removed_field_does_not_get_through_under_another_spelling(
    name: str, spelling: bytes
) -> None:
    for edits in (HeaderEdits(remove=(name,)), HeaderEdits(set={name: "no"})):
        compiled = compile_edits(edits)
        assert compiled is not None
        assert compiled.without([(spelling, b"yes"), (b"x", b"1")]) == [(b"x", b"1")]


def test_no_edits_are_none() -> None:
    assert compile_edits(HeaderEdits()) is None


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (
            "request",
            {*(NOT_FORWARDED - IDENTITY_FIELDS), b"x-user-id", b"x_user_role"}
            | {b"content-length", b"via"},
        ),
        ("response", {*NOT_RETURNED, *HOP_BY_HOP, b"content-length", b"via"}),
    ],
)
@pytest.mark.parametrize("kind", ["set", "add", "remove"])
def test_no_edit_touches_what_the_gateway_itself_takes_away_or_writes(
    message: str, names: set[bytes], kind: str
) -> None:
    for name in sorted(one.decode() for one in names):
        edits = HeaderEdits(**{kind: (name,) if kind == "remove" else {name: "x"}})
        headers = HeadersConfig(**{message: edits})
        ((key, reason),) = actions.header_problems(headers)
        assert key.startswith(f"headers.{message}.{kind}"), name
        assert "gateway" in reason


def test_what_no_client_may_say_about_a_user_a_route_may() -> None:
    edits = HeaderEdits(set={"x-forwarded-user": "nightly"})
    assert not [*actions.header_problems(HeadersConfig(request=edits))]
    compiled = compile_edits(edits)
    assert compiled is not None
    given = [(b"x-forwarded-user", b"root"), (b"x_forwarded_user", b"root")]
    forwarded = end_to_end(given, dict(given), NOT_FORWARDED)
    assert compiled.apply(forwarded) == [(b"x-forwarded-user", b"nightly")]


# Split


def cluster(name: str) -> Cluster:
    return Cluster(name, ServiceConfig(), ServiceStats())


def test_a_split_divides_by_weight_and_leaves_out_what_weighs_nothing() -> None:
    random.seed(7)
    weights = {"a": 90, "never": 0, "b": 10, "none": 0}
    split = Split([(cluster(name), weight) for name, weight in weights.items()])
    counts = Counter(split.choose().name for _ in range(20_000))
    assert counts.keys() == {"a", "b"}
    # Six standard deviations of a binomial distribution: sqrt(20000 * 0.9 * 0.1) = 42.
    assert abs(counts["b"] - 2000) < 6 * 42


def test_a_split_of_one_is_that_one() -> None:
    split = Split([(cluster("a"), 0), (cluster("b"), 3)])
    assert {split.choose().name for _ in range(100)} == {"b"}


# Whatever the configuration accepts can be carried out

PATHS = st.sampled_from(["", "/", "/a", "/a/{x}", "/{x}/b/{y}", "/{y}", "/a/b", "/{z}", "/a/{y}/c"])
PREFIXES = st.sampled_from(["", "/", "/a", "/a/b", "/c"])


@given(
    st.builds(MatchConfig, path=PATHS) | st.builds(MatchConfig, path_prefix=PREFIXES),
    PATHS,
    st.builds(
        RedirectConfig,
        st.sampled_from(["keep", "https"]),
        st.sampled_from(["", "h.test"]),
        st.sampled_from([0, 81]),
        PATHS,
        PREFIXES,
    ),
    st.booleans(),
)
def test_an_accepted_rewrite_or_redirect_has_an_answer_for_every_path_that_matches(
    match: MatchConfig, rewrite: str, redirect: RedirectConfig, proxied: bool
) -> None:
    route = RouteConfig("r", match, redirect=redirect)
    if proxied:
        route = RouteConfig("r", match, "s", rewrite=rewrite)
    if not (match.path or match.path_prefix) or [*actions.action_problems(route)]:
        return
    table = RouteTable([(match, route)])
    for target in (b"/", b"/a", b"//%61//b?q", b"/a/b/c?q", b"/a/%2F", b"/x/b/y", b"/%61/b/"):
        path = normalize(target.partition(b"?")[0])
        assert path is not None
        if table.match(b"GET", path, {}) is None:
            continue
        if proxied:
            rewriting = path_rewrite(match, rewrite)
            seen = target if rewriting is None else rewriting.apply(target, path)
        else:
            request = Request(b"GET", target, [], True)
            reply = compile_reply(route, None).head(request, path, b"http", b"h")
            assert reply is not None
            seen = dict(reply[1])[b"location"]
            origin, _, seen = seen.rpartition(b"://")
            seen = seen[seen.find(b"/") :] if origin else seen
        assert seen.startswith(b"/")
        assert normalize(seen.partition(b"?")[0]) is not None
        assert seen.endswith(b"?q") == target.endswith(b"?q")
