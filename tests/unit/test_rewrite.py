"""Rewrites: whole segments move, and not a byte of them or of the query changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import MatchConfig
from siger_gateway.routing.path import normalize
from siger_gateway.routing.rewrite import path_rewrite, strip_rewrite

SEGMENT = st.text("ab.~%2F%3f;=@!$\\{}é", min_size=1, max_size=6).map(
    lambda text: text.encode("latin-1")
)
SEGMENTS = st.lists(SEGMENT, min_size=1, max_size=4)
QUERIES = st.sampled_from([b"", b"?", b"?a=/b/../c", b"?//x?y", b"?q=%2F%00&\\"])


def prefix_rewrite(prefix: str, rewrite: str, target: bytes) -> bytes:
    found = path_rewrite(MatchConfig(path_prefix=prefix), rewrite)
    path = normalize(target.partition(b"?")[0])
    assert found is not None
    assert path is not None
    return found.apply(target, path)


@pytest.mark.parametrize(
    ("prefix", "rewrite", "target", "expected"),
    [
        ("/api", "/v2", b"/api/users?x=/api", b"/v2/users?x=/api"),
        ("/api", "/v2", b"/api", b"/v2"),
        ("/api", "/v2", b"/api?x", b"/v2?x"),
        ("/api", "/v2", b"/api/", b"/v2/"),
        ("/api", "/v2", b"/api//x", b"/v2//x"),
        ("/api", "/v2", b"//%61pi/a%2fb", b"/v2/a%2Fb"),
        ("/api", "/api/api", b"/api/x", b"/api/api/x"),
        ("/api", "/", b"/api/x", b"/x"),
        ("/api", "/", b"/api", b"/"),
        ("/api", "/", b"/api?x", b"/?x"),
        ("/", "/v2", b"/x", b"/v2/x"),
        ("/", "/v2", b"/", b"/v2/"),
        ("/a/b", "/c", b"/a/b/d", b"/c/d"),
    ],
)
def test_a_rewrite_takes_the_place_of_the_matched_prefix(
    prefix: str, rewrite: str, target: bytes, expected: bytes
) -> None:
    assert prefix_rewrite(prefix, rewrite, target) == expected


def test_the_target_of_options_for_the_whole_server_is_no_path() -> None:
    found = path_rewrite(MatchConfig(path_prefix="/"), "/v2")
    assert found is not None
    assert found.apply(b"*", b"*") == b"*"


@pytest.mark.parametrize(
    ("match", "rewrite", "target", "expected"),
    [
        ("/users/{id}", "/v2/people/{id}", b"/users/42?x", b"/v2/people/42?x"),
        ("/users/{id}", "/people", b"/users/42", b"/people"),
        ("/users/{id}", "/", b"/users/42?", b"/?"),
        ("/{a}/x/{b}", "/{b}/{a}", b"/1/x/%2F", b"/%2F/1"),
        ("/{a}/x/{b}", "/{b}", b"//1//%78/2%20", b"/2%20"),
        ("/{a}", "/b/{a}/c", b"/{a}", b"/b/{a}/c"),
        ("/old", "/new", b"/old?a/b", b"/new?a/b"),
    ],
)
def test_names_stand_for_the_segments_that_were_asked_for(
    match: str, rewrite: str, target: bytes, expected: bytes
) -> None:
    path = normalize(target.partition(b"?")[0])
    found = path_rewrite(MatchConfig(path=match), rewrite)
    assert found is not None
    assert path is not None
    assert found.apply(target, path) == expected


def test_a_route_without_rewrite_has_none() -> None:
    assert path_rewrite(MatchConfig(path_prefix="/a"), "") is None
    assert strip_rewrite("") is None


@given(SEGMENTS, QUERIES, st.sampled_from(["/v2", "/v2/x%2Fy", "/"]))
def test_a_prefix_rewrite_changes_neither_the_rest_nor_the_query(
    segments: list[bytes], query: bytes, rewrite: str
) -> None:
    rest = b"/" + b"/".join(segments)
    target = b"/api" + rest + query
    path = normalize(b"/api" + rest)
    if path is not None:
        assert prefix_rewrite("/api", rewrite, target) == (
            rewrite.rstrip("/").encode() + rest + query
        )


@given(SEGMENT, SEGMENT, QUERIES)
def test_a_template_rewrite_changes_no_byte_of_a_segment(
    one: bytes, two: bytes, query: bytes
) -> None:
    found = path_rewrite(MatchConfig(path="/{one}/to/{two}"), "/x/{two}/{one}/y")
    path = normalize(b"/%b/to/%b" % (one, two))
    assert found is not None
    if path is not None:
        rewritten = found.apply(b"/%b/to/%b" % (one, two) + query, path)
        assert rewritten == b"/x/%b/%b/y" % (two, one) + query
