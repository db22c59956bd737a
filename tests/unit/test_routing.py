"""Which route a request takes, and what a path means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import Config, MatchConfig, RegisterConfig, ServiceConfig
from siger_gateway.routing.effective import effective_routes, effective_services
from siger_gateway.routing.path import is_plain, normalize, strip_prefix
from siger_gateway.routing.table import RouteTable, host_name


def matches(
    table: RouteTable[str], path: str, method: str = "GET", host: str = "a", **fields: str
) -> str | None:
    given_fields = {name.replace("_", "-").encode(): v.encode() for name, v in fields.items()}
    given_fields[b"host"] = host.encode()
    return table.match(method.encode(), path.encode(), given_fields)


TABLE = RouteTable(
    [
        (MatchConfig(path_prefix="/"), "root"),
        (MatchConfig(path_prefix="/a"), "a"),
        (MatchConfig(path_prefix="/a/b"), "ab"),
        (MatchConfig(path="/a/b"), "exact"),
        (MatchConfig(path="/a/{id}"), "template"),
        (MatchConfig(path="/a/{id}/c"), "deep template"),
        (MatchConfig(path="/a/x/{id}"), "literal first"),
        (MatchConfig(path_prefix="/m", methods=("GET", "HEAD")), "m get"),
        (MatchConfig(path_prefix="/m"), "m any"),
        (MatchConfig(path_prefix="/h", host="*.example.com"), "h suffix"),
        (MatchConfig(path_prefix="/h", host="api.example.com"), "h host"),
        (MatchConfig(path_prefix="/t", headers={"X-Tier": "gold"}), "gold"),
        (MatchConfig(path_prefix="/only", methods=("POST",)), "only post"),
    ]
)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "root"),
        ("/z", "root"),
        ("/ab", "root"),
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/b", "exact"),
        ("/a/b/", "ab"),
        ("/a/b/q/r", "ab"),
        ("/a/7", "template"),
        ("/a/7/c", "deep template"),
        ("/a/7/d", "a"),
        ("/a/x/7", "literal first"),
        ("/a/x/c", "literal first"),
        ("/m", "m get"),
        ("/t", "root"),
        ("/only", "root"),
    ],
)
def test_the_longest_match_wins(path: str, target: str) -> None:
    assert matches(TABLE, path) == target


def test_the_most_predicates_win_among_equal_paths() -> None:
    assert matches(TABLE, "/m", method="POST") == "m any"
    assert matches(TABLE, "/h", host="api.example.com:8080") == "h host"
    assert matches(TABLE, "/h", host="API.Example.com") == "h host"
    assert matches(TABLE, "/h", host="x.example.com") == "h suffix"
    assert matches(TABLE, "/h", host="example.com") == "root"
    assert matches(TABLE, "/t/1", x_tier="gold") == "gold"
    assert matches(TABLE, "/t/1", x_tier="silver") == "root"
    assert matches(TABLE, "/only", method="POST") == "only post"


def test_no_match_is_none() -> None:
    table = RouteTable([(MatchConfig(path_prefix="/a"), "a")])
    assert matches(table, "/") is None
    assert matches(table, "/b") is None
    assert matches(RouteTable[str]([]), "/") is None


def test_a_deep_path_costs_no_more_look_ups_than_the_longest_prefix() -> None:
    table = RouteTable([(MatchConfig(path_prefix="/a/b"), "ab")])
    asked = []

    class Counting(dict[bytes, tuple[object, ...]]):
        def get(self, key: bytes, default: object = None) -> object:  # type: ignore[override]
            asked.append(key)
            return super().get(key, default)

    table._prefixes = Counting(table._prefixes)  # type: ignore[assignment]
    assert matches(table, "/a/b" + "/c" * 10_000) == "ab"
    assert matches(table, "/" * 10_000) is None
    assert len(asked) < 10


SEGMENTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=4)


@given(st.lists(SEGMENTS, max_size=12, unique_by=tuple), SEGMENTS)
def test_prefixes_match_as_a_linear_search_would(
    prefixes: list[list[str]], path: list[str]
) -> None:
    table = RouteTable(
        [(MatchConfig(path_prefix="/" + "/".join(one)), tuple(one)) for one in prefixes]
    )
    found = table.match(b"GET", ("/" + "/".join(path)).encode(), {})
    fitting = [tuple(one) for one in prefixes if path[: len(one)] == one]
    assert found == max(fitting, key=len, default=None)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/a", b"/a"),
        (b"/%61dmin", b"/admin"),
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/a%2fb", b"/a%2fb"),
        (b"//a///b/", b"/a/b/"),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/a/...", b"/a/..."),
        (b"/a;x=1", b"/a;x=1"),
        (b"/%7Euser", b"/~user"),
        (b"/%C3%A4", b"/%C3%A4"),
        (b"//", b"/"),
        (b"/..", None),
        (b"/.", None),
        (b"/a/../b", None),
        (b"/a/%2e%2E/b", None),
        (b"/a/..;x/b", None),
        (b"/%2e", None),
        (b"/%", None),
        (b"/%4", None),
        (b"/%zz", None),
        (b"/%00", None),
        (b"/%0a", None),
        (b"/%7f", None),
    ],
)
def test_what_a_path_means(path: bytes, normal: bytes | None) -> None:
    assert normalize(path) == normal


@given(st.binary(max_size=30))
def test_a_normal_form_is_stable_and_climbs_nowhere(rest: bytes) -> None:
    normal = normalize(b"/" + rest)
    if normal is not None:
        assert normal.startswith(b"/")
        assert not {b".", b".."} & set(normal.split(b"/"))
        if is_plain(b"/" + rest):
            assert normal == b"/" + rest


@pytest.mark.parametrize(
    ("target", "path", "prefix", "forwarded"),
    [
        (b"/api/x?y", b"/api/x", b"/api", b"/x?y"),
        (b"/api", b"/api", b"/api", b"/"),
        (b"/api?y", b"/api", b"/api", b"/?y"),
        (b"/%61pi/x?y=%61", b"/api/x", b"/api", b"/x?y=%61"),
        (b"//api/x", b"/api/x", b"/api", b"/x"),
    ],
)
def test_a_prefix_is_stripped(target: bytes, path: bytes, prefix: bytes, forwarded: bytes) -> None:
    assert strip_prefix(target, path, prefix) == forwarded


@pytest.mark.parametrize(
    ("host", "name"),
    [(b"A.b:80", b"a.b"), (b"a", b"a"), (b"[::1]:80", b"[::1]"), (b"[::1]", b"[::1]")],
)
def test_the_name_of_a_host(host: bytes, name: bytes) -> None:
    assert host_name(host) == name


def test_only_named_services_are_exposed_and_a_star_leaves_the_infrastructure_out() -> None:
    services = {"local": ServiceConfig(consul="x")}
    named = Config(services=services, expose_services=("billing",))
    assert set(effective_services(named)) == {"local", "billing"}
    assert [one.name for one in effective_routes(named) if one.service] == ["services/billing"]
    every = Config(services=services, expose_services=("*",), register=RegisterConfig(name="me"))
    names = {one.service for one in effective_routes(every, ("a", "consul", "me")) if one.service}
    assert names == {"local", "a"}
