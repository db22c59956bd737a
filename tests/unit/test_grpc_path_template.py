"""Path templates of ``google.api.http``: what is one, and which request fits which."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.path_template import (
    BadRule,
    PathTable,
    PathTemplate,
    Variable,
    parse_template,
)


def table(*templates: str) -> PathTable[str]:
    """Each leads to itself; ``"POST /x"`` is one for POST."""
    made: PathTable[str] = PathTable()
    for text in templates:
        method, _, path = text.rpartition(" ")
        made.add(method or "GET", parse_template(path), text)
    return made


def found(made: PathTable[str], path: bytes, method: str = "GET") -> str | None:
    result = made.find(method, path)
    return None if result is None else result[0]


def values(template: str, path: bytes) -> dict[str, str] | None:
    result = table(template).find("GET", path)
    if result is None:
        return None
    return {
        variable.path: variable.value(result[1]) for variable in parse_template(template).variables
    }


def test_a_template_has_segments_a_verb_and_variables() -> None:
    assert parse_template("/v1/{a.b=x/*}/{c}/{d=**}:go") == PathTemplate(
        ("v1", "x", "*", "*", "**"),
        "go",
        (Variable("a.b", 1, 3), Variable("c", 3, 4), Variable("d", 4, None)),
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "v1/x", "/", "/v1/", "//x", "/v1/**/x", "/{a=**}/x", "/v1/x:", "/a:b:c/d"),
        *("/{a", "/a}", "/{}", "/{1a}", "/{a.}", "/{a}/{a}", "/{a={b}}", "/{a=}", "/x{a}", "/a*"),
        *("/***", "/{a=x/}", "/x:*"),
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(BadRule):
        parse_template(text)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/v1/{a}", b"/v1/x", {"a": "x"}),
        ("/v1/{a}", b"/v1/", None),
        ("/v1/{a}", b"/v1", None),
        ("/v1/{a}", b"/v1/x/", None),
        ("/v1/{a}", b"/v1/x/y", None),
        ("/v1/{a}", b"/v1/x%2Fy%20%C3%A4", {"a": "x/y ä"}),
        ("/v1/{a=s/*/b/*}", b"/v1/s/1/b/2", {"a": "s/1/b/2"}),
        ("/v1/{a=s/*/b/*}", b"/v1/s/x%2Fy%2f/b/%41", {"a": "s/x%2Fy%2f/b/A"}),
        ("/v1/{a=s/*/b/*}", b"/v1/s/1/c/2", None),
        ("/v1/{a=**}", b"/v1/x/y%20z", {"a": "x/y z"}),
        ("/v1/{a=**}", b"/v1", {"a": ""}),
        ("/v1/{a=x/**}", b"/v1/x", {"a": "x"}),
        ("/v1/{a}/y/{b}", b"/v1/1/y/2", {"a": "1", "b": "2"}),
        ("/v1/*/{b}", b"/v1/1/2", {"b": "2"}),
        ("/v1/{a}:go", b"/v1/x:go", {"a": "x"}),
        ("/v1/{a}:go", b"/v1/x:y:go", {"a": "x:y"}),
        ("/v1/{a}:go", b"/v1/x", None),
        ("/v1/{a}:go", b"/v1/:go", None),
        ("/v1/{a}:go", b"/v1/x%3Ago", None),
        ("/v1/{a=**}:go", b"/v1/x/y:go", {"a": "x/y"}),
        ("/v1/{a}", b"/v1/x:go", {"a": "x:go"}),
    ],
)
def test_variables_take_their_segments_decoded(
    template: str, path: bytes, expected: dict[str, str] | None
) -> None:
    assert values(template, path) == expected


def test_a_literal_goes_before_one_segment_and_that_before_the_rest() -> None:
    made = table("/v1/**", "/v1/{a}", "/v1/me", "/v1/{a}/x")
    assert [found(made, path) for path in (b"/v1/me", b"/v1/you", b"/v1/me/y", b"/v1/me/x")] == [
        "/v1/me",
        "/v1/{a}",
        "/v1/**",
        "/v1/{a}/x",
    ]


def test_a_less_exact_template_serves_the_methods_that_the_exact_one_does_not() -> None:
    made = table("GET /v1/me", "DELETE /v1/{a}", "* /v1/{b}/any")
    assert found(made, b"/v1/me", "DELETE") == "DELETE /v1/{a}"
    assert found(made, b"/v1/me/any", "PURGE") == "* /v1/{b}/any"
    assert found(made, b"/v1/me", "POST") is None


def test_a_verb_goes_before_a_colon_in_a_segment() -> None:
    made = table("/v1/{a}", "/v1/{a}:go")
    assert [found(made, path) for path in (b"/v1/x:go", b"/v1/x:stop")] == ["/v1/{a}:go", "/v1/{a}"]


def test_the_methods_of_a_path_are_listed() -> None:
    made = table("GET /v1/me", "DELETE /v1/{a}", "POST /v2", "PUT /v1/{a=**}", "PATCH /v1/{a}:go")
    assert made.methods(b"/v1/me") == ["DELETE", "GET", "PUT"]
    assert made.methods(b"/v1/me:go") == ["DELETE", "PATCH", "PUT"]
    assert made.methods(b"/v1") == ["PUT"]
    assert made.methods(b"/v3") == made.methods(b"v2") == []


@given(st.lists(st.sampled_from([b"a", b"b", b"", b"a:go", b"b:no"]), max_size=4))
def test_the_methods_of_a_path_are_those_with_which_it_is_found(segments: list[bytes]) -> None:
    methods = ["GET", "PUT", "POST", "PATCH", "DELETE"]
    made = table("GET /a", "PUT /{a}/b", "POST /a/{b=**}", "PATCH /{a}/{b}:go", "DELETE /{a=**}")
    path = b"/" + b"/".join(segments)
    assert made.methods(path) == sorted(one for one in methods if made.find(one, path))


def test_the_first_of_two_equal_templates_stays() -> None:
    made = table("/v1/{a}")
    assert made.add("GET", parse_template("/v1/{b}"), "second") == "/v1/{a}"


@pytest.mark.parametrize("text", ["/" + "a" * 1024, "/a" * 33, "/{a=" + "*/" * 32 + "*}"])
def test_templates_that_would_be_slow_to_match_are_refused(text: str) -> None:
    with pytest.raises(BadRule, match="has more than 1024 characters or 32 segments"):
        parse_template(text)
    parse_template("/a" * 32)


def test_a_table_has_methods_that_can_be_named_in_one_field() -> None:
    table: PathTable[int] = PathTable()
    template = parse_template("/a")
    for number in range(16):
        table.add(f"M{number}", template, number)
    with pytest.raises(BadRule, match="more than 16 methods"):
        table.add("M16", template, 16)


def test_a_path_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(GatewayError) as caught:
        table("/v1/{a}").find("GET", b"/v1/%FF")
    assert caught.value.reason == "bad_path"


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_comes_back_out_of_its_segment(first: str, second: str) -> None:
    path = f"/v1/{quote(first, safe='')}/x/{quote(second, safe='')}".encode()
    assert values("/v1/{a}/x/{b}", path) == {"a": first, "b": second}


@given(st.binary(max_size=40))
def test_no_path_leads_to_anything_but_an_answer_or_a_refusal(path: bytes) -> None:
    made = table("/v1/{a=**}", "/{a}/{b}:go", "/{a=**}")
    try:
        outcome = "found" if made.find("GET", path) is not None else "nothing"
    except GatewayError as error:
        outcome = error.reason
    assert outcome in (("found", "bad_path") if path.startswith(b"/") else ("nothing",))
