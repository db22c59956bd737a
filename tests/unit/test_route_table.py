"""The route table against a linear search; ``test_routing`` has the plain cases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.config.schema import MatchConfig
from siger_gateway.routing.table import RouteTable, Rule


def find(table: RouteTable[str], path: str, method: str = "GET", **fields: str) -> str | None:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return table.match(method.encode(), path.encode(), given)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (MatchConfig(path="/a/b"), MatchConfig(path="/a/{x}")),
        (MatchConfig(path="/a/{x}"), MatchConfig(path_prefix="/a/b")),
        (MatchConfig(path_prefix="/a/b"), MatchConfig(path_prefix="/a")),
        (MatchConfig(path_prefix="/a"), MatchConfig(path_prefix="/")),
        (MatchConfig(path="/a/{x}"), MatchConfig(path="/{x}/b")),
        (MatchConfig(path="/a/{x}"), MatchConfig(path="/{x}/b", methods=("GET",), host="h.h")),
        (MatchConfig(path="/a/b", methods=("GET",)), MatchConfig(path="/a/b")),
        (MatchConfig(path="/a/b", host="h"), MatchConfig(path="/a/b", host="*.h")),
        (MatchConfig(path="/a/b", host="h.h"), MatchConfig(path="/a/b", host="*.h")),
        (
            MatchConfig(path="/a/b", headers={"x": "1", "y": "2"}),
            MatchConfig(path="/a/b", methods=("GET",)),
        ),
        (MatchConfig(path="/a/b", methods=("GET",)), MatchConfig(path="/a/b", host="*.h")),
    ],
)
def test_the_more_specific_route_wins_in_either_order(
    better: MatchConfig, worse: MatchConfig
) -> None:
    for entries in ([(better, "better"), (worse, "worse")], [(worse, "worse"), (better, "better")]):
        host = better.host or "h.h"
        assert find(RouteTable(entries), "/a/b", host=host, x="1", y="2") == "better"


def test_a_literal_segment_goes_before_a_variable_from_the_left() -> None:
    """Whatever else the routes ask for, and in whatever order they are listed."""
    matches = [
        MatchConfig(path="/users/{id}", methods=("GET",), headers={"x": "1"}),
        MatchConfig(path="/users/me"),
        MatchConfig(path="/a/{x}/c", methods=("GET",)),
        MatchConfig(path="/a/b/{y}"),
        MatchConfig(path="/{v}/b/c", host="h"),
    ]
    for entries in (matches, matches[::-1]):
        table = RouteTable([(match, match.path) for match in entries])
        assert find(table, "/users/me", x="1") == "/users/me"
        assert find(table, "/users/you", x="1") == "/users/{id}"
        found = [rule.target for rule in table.candidates(b"/a/b/c")]
        assert found == ["/a/b/{y}", "/a/{x}/c", "/{v}/b/c"]


@pytest.mark.parametrize(
    ("main", "fallback", "path", "winner"),
    [
        (MatchConfig(path_prefix="/a"), MatchConfig(path_prefix="/a", methods=("GET",)), "/a/b", 0),
        (MatchConfig(path="/a"), MatchConfig(path="/a", host="h", headers={"x": "1"}), "/a", 0),
        (MatchConfig(path="/{x}"), MatchConfig(path="/{y}", methods=("GET",)), "/a", 0),
        (MatchConfig(path_prefix="/a"), MatchConfig(path_prefix="/a/b"), "/a/b", 1),
        (MatchConfig(path_prefix="/a", methods=("PUT",)), MatchConfig(path_prefix="/a"), "/a", 1),
    ],
)
def test_a_fallback_route_gets_what_the_main_ones_of_its_path_leave(
    main: MatchConfig, fallback: MatchConfig, path: str, winner: int
) -> None:
    table = RouteTable([(main, "main")], [(fallback, "fallback")])
    assert find(table, path, host="h", x="1") == ("main", "fallback")[winner]


def test_of_two_equally_good_routes_the_earlier_wins() -> None:
    for match in (
        MatchConfig(path="/a"),
        MatchConfig(path_prefix="/a"),
        MatchConfig(path="/a", methods=("GET",)),
    ):
        assert find(RouteTable([(match, "first"), (match, "second")]), "/a") == "first"
    templates = [(MatchConfig(path="/{x}"), "first"), (MatchConfig(path="/{y}"), "second")]
    assert find(RouteTable(templates), "/a") == "first"


@pytest.mark.parametrize(
    ("match", "fits", "other"),
    [
        (MatchConfig(path="/a"), ["/a"], ["/a/", "/", "/A", "/ab", "/a/b", "", "*"]),
        (MatchConfig(path="/a/"), ["/a/"], ["/a", "/a/b"]),
        (
            MatchConfig(path_prefix="/a"),
            ["/a", "/a/", "/a/b", "/a/b/c"],
            ["/ab", "/", "/A/b", "/a.b"],
        ),
        (MatchConfig(path_prefix="/a/"), ["/a", "/a/", "/a/b"], ["/ab", "/"]),
        (MatchConfig(path_prefix="/"), ["/", "/a", "/a/b"], []),
        (MatchConfig(path="/{x}"), ["/a", "/%2F", "/{x}"], ["/", "/a/", "/a/b", "//"]),
        (
            MatchConfig(path="/a/{x}/b"),
            ["/a/1/b", "/a/b/b"],
            ["/a/b", "/a//b", "/a/1/b/", "/a/1/2/b"],
        ),
        (MatchConfig(path="/{x}/{y}"), ["/a/b"], ["/a", "/a/", "//b", "/a/b/c"]),
    ],
)
def test_whole_segments_match(match: MatchConfig, fits: list[str], other: list[str]) -> None:
    table = RouteTable([(match, "it")])
    for path in fits:
        assert find(table, path) == "it", path
    for path in other:
        assert find(table, path) is None, path


@pytest.mark.parametrize(
    ("pattern", "host", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.b", "A.B", True),
        ("a.b", "a.b:8080", True),
        ("a.b", "x.a.b", False),
        ("a.b", "a.b.evil", False),
        ("a.b", "evil-a.b", False),
        ("a.b", "", False),
        ("*.a.b", "x.a.b", True),
        ("*.a.b", "y.x.A.b:1", True),
        ("*.a.b", "a.b", False),
        ("*.a.b", "xa.b", False),
        ("*.a.b", "x.a.b.evil", False),
        ("*.a.b", "evil:1.a.b", False),
        ("[::1]", "[::1]:80", True),
    ],
)
def test_hosts_match_whole_or_by_suffix(pattern: str, host: str, fits: bool) -> None:
    table = RouteTable([(MatchConfig(path_prefix="/", host=pattern), "it")])
    assert find(table, "/", host=host) == ("it" if fits else None)
    assert find(table, "/") is None


def test_methods_and_values_of_fields_match_exactly() -> None:
    table = RouteTable(
        [(MatchConfig(path="/a", methods=("GET", "PUT"), headers={"X-Tier": "gold"}), "it")]
    )
    assert find(table, "/a", "PUT", x_tier="gold") == "it"
    assert find(table, "/a", "put", x_tier="gold") is None
    assert find(table, "/a", "POST", x_tier="gold") is None
    assert find(table, "/a", x_tier="Gold") is None
    assert find(table, "/a", x_tier="gold ") is None
    assert find(table, "/a") is None


def test_a_rule_says_why_it_does_not_take_a_request() -> None:
    rule = Rule(MatchConfig(path="/", methods=("GET",), host="h", headers={"X-A": "1"}), None)
    good = {b"host": b"h", b"x-a": b"1"}
    assert rule.refusal(b"GET", good) == ""
    assert rule.refusal(b"PUT", good) == "method"
    assert rule.refusal(b"GET", {**good, b"host": b"i"}) == "host"
    assert rule.refusal(b"GET", {**good, b"x-a": b"2"}) == "header x-a"


def test_a_route_that_refuses_leaves_the_request_to_the_next_shorter_one() -> None:
    table = RouteTable(
        [
            (MatchConfig(path="/a/b/c", methods=("PUT",)), "exact"),
            (MatchConfig(path="/a/{x}/c", methods=("POST",)), "template"),
            (MatchConfig(path_prefix="/a/b", methods=("DELETE",)), "long"),
            (MatchConfig(path_prefix="/a", methods=("PATCH",)), "short"),
            (MatchConfig(path_prefix="/"), "root"),
        ]
    )
    found = [find(table, "/a/b/c", method) for method in ("PUT", "POST", "DELETE", "PATCH", "GET")]
    assert found == ["exact", "template", "long", "short", "root"]
    assert [rule.target for rule in table.candidates(b"/a/b/c")] == found


@pytest.mark.parametrize(
    "path", ["/a/b" + 10_000 * "/c", 10_000 * "/", "/" + 10_000 * "c/", 5000 * "/a"]
)
def test_ten_thousand_slashes_cost_no_more_look_ups_than_the_longest_prefix(path: str) -> None:
    table = RouteTable(
        [
            (MatchConfig(path_prefix="/a/b"), "ab"),
            (MatchConfig(path="/a/{x}/{y}"), "template"),
            (MatchConfig(path_prefix="/a/b/c/d/e"), "deep"),
        ]
    )
    assert find(table, path) == ("ab" if path.startswith("/a/b") else None)
    # There is one look-up for this, and one for each of its slashes.
    assert len(table._cut(path.encode())) <= len("/a/b/c/d/e")


SEGMENTS = st.sampled_from(["a", "b", "ab", "{x}"])
HOSTS = ["", "h", "g.h", "*.h"]


@st.composite
def match_configs(draw: st.DrawFn) -> MatchConfig:
    segments = draw(st.lists(SEGMENTS, max_size=3))
    methods = draw(st.sampled_from([(), (), ("GET",), ("GET", "PUT")]))
    host = draw(st.sampled_from(HOSTS))
    headers = draw(st.sampled_from([{}, {}, {"x": "1"}, {"x": "2", "y": "1"}]))
    if draw(st.booleans()):
        path = "/" + "/".join(
            f"{{x{at}}}" if one == "{x}" else one for at, one in enumerate(segments)
        )
        return MatchConfig(path=path, methods=methods, host=host, headers=headers)
    prefix = "/" + "/".join(one for one in segments if one != "{x}")
    return MatchConfig(path_prefix=prefix, methods=methods, host=host, headers=headers)


def rank(match: MatchConfig, path: str) -> tuple[int, ...] | None:
    """How good a match of ``path`` is, or None: what the documentation says, said plainly."""
    segments = path.split("/")[1:]
    predicates = 2 * bool(match.methods) + 2 * len(match.headers)
    predicates += 2 if match.host and match.host[0] != "*" else bool(match.host)
    if match.path and "{" not in match.path:
        return (2, 0, predicates) if match.path == path else None
    if match.path:
        pattern = match.path.split("/")[1:]
        if len(pattern) != len(segments):
            return None
        for part, segment in zip(pattern, segments, strict=True):
            if part != segment and not (part[:1] == "{" and segment):
                return None
        return (1, *(part[:1] != "{" for part in pattern), predicates)
    pattern = [part for part in match.path_prefix.split("/") if part]
    return (0, len(pattern), predicates) if segments[: len(pattern)] == pattern else None


def takes(match: MatchConfig, method: str, fields: dict[str, str]) -> bool:
    host = fields["host"].partition(":")[0].lower()
    if match.host.startswith("*"):
        if not host.endswith(match.host[1:]):
            return False
    elif match.host and host != match.host:
        return False
    if match.methods and method not in match.methods:
        return False
    return all(fields.get(name) == value for name, value in match.headers.items())


@settings(max_examples=250)
@given(
    st.lists(match_configs(), max_size=12),
    st.lists(st.sampled_from(["a", "b", "ab", "q"]), max_size=4),
    st.sampled_from(["GET", "PUT", "POST"]),
    st.sampled_from(["h", "G.h:80", "other"]),
    st.sampled_from([{}, {"x": "1"}, {"x": "2", "y": "1"}]),
)
def test_the_table_finds_what_a_linear_search_finds(
    matches: list[MatchConfig],
    segments: list[str],
    method: str,
    host: str,
    extra: dict[str, str],
) -> None:
    path = "/" + "/".join(segments)
    fields = {"host": host, **extra}
    table = RouteTable([(match, number) for number, match in enumerate(matches)])
    ranked = [
        (ranking, -number)
        for number, match in enumerate(matches)
        if (ranking := rank(match, path)) is not None and takes(match, method, fields)
    ]
    expected = -max(ranked)[1] if ranked else None
    given_fields = {name.encode(): value.encode() for name, value in fields.items()}
    assert table.match(method.encode(), path.encode(), given_fields) == expected
    taking = [
        rule.target
        for rule in table.candidates(path.encode())
        if not rule.refusal(method.encode(), given_fields)
    ]
    assert (taking[0] if taking else None) == expected
