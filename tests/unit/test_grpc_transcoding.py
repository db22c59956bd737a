"""JSON requests become messages, messages become JSON, and what does not fit is named."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.transcoding import (
    JSON,
    Binding,
    JsonStyle,
    Match,
    Transcoder,
    call_head,
    reply_head,
)
from tests.descriptors import described, library

SERVICE = "library.v1.Library"
HEAD = """
syntax = "proto3";
package p;
import "google/api/annotations.proto";
message M { string a = 1; repeated string r = 2; M m = 3; }
service S { rpc C(M) returns (M) { option (google.api.http) = { %s }; } }
"""

transcoder = Transcoder(library())


def matched(method: bytes, target: bytes, of: Transcoder = transcoder) -> Match:
    path, _, query = target.partition(b"?")
    match = of.match(method, path, query)
    assert match is not None
    return match


def sent(method: bytes, target: bytes, body: Any = b"") -> dict[str, Any]:
    """The message that a request becomes, with the names of the description."""
    match = matched(method, target)
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    kind = message_factory.GetMessageClass(match.binding.rule.rpc.input_type)
    return json_format.MessageToDict(
        kind.FromString(match.request_message(raw)), preserving_proto_field_name=True
    )


def refused(method: bytes, target: bytes, body: Any = b"") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        sent(method, target, body)
    return caught.value


def bad(method: bytes, target: bytes, body: Any = b"") -> dict[str, str]:
    error = refused(method, target, body)
    assert error.reason == "invalid_fields"
    return {entry["field"]: entry["detail"] for entry in error.errors or []}


def book(**fields: Any) -> Message:
    kind = message_factory.GetMessageClass(transcoder.pool.FindMessageTypeByName("library.v1.Book"))
    return kind(**fields)


def told(binding: Binding, message: Message) -> Any:
    return orjson.loads(binding.response_json(message.SerializeToString()))


def test_a_call_has_the_fields_of_its_request_but_those_of_its_json() -> None:
    head = [
        (b"host", b"a"),
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"br"),
        (b"grpc-encoding", b"snappy"),
        (b"grpc-accept-encoding", b"snappy"),
        (b"authorization", b"x"),
    ]
    assert call_head(head) == [
        (b"host", b"a"),
        (b"authorization", b"x"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"grpc-accept-encoding", b"identity,gzip,deflate"),
    ]


def test_a_response_has_the_metadata_of_its_call() -> None:
    head = [
        (b"content-type", b"application/grpc"),
        (b"grpc-encoding", b"gzip"),
        (b"x-cost", b"3"),
        (b"grpc-status", b"0"),
    ]
    content = [(b"content-type", JSON)]
    assert reply_head(head, content) == [(b"x-cost", b"3"), *content]


@pytest.mark.parametrize(
    ("method", "target", "path"),
    [
        (b"GET", b"/v1/shelves/1/books/2", b"GetBook"),
        (b"GET", b"/v1/books/2", b"GetBook"),
        (b"GET", b"/v1/files/a/b/c", b"GetBook"),
        (b"GET", b"/v1/books/special", b"Special"),
        (b"GET", b"/v1/shelves/1/books", b"ListBooks"),
        (b"POST", b"/v1/shelves/1/books", b"CreateBook"),
        (b"PATCH", b"/v1/books/1", b"UpdateBook"),
        (b"PUT", b"/v1/books/1", b"UpdateBook"),
        (b"DELETE", b"/v1/books/1", b"DeleteBook"),
        (b"POST", b"/v1/books/1:cancel", b"CancelLoan"),
        (b"QUERY", b"/v1/check/1", b"Check"),
        (b"POST", b"/library.v1.Library/WatchBooks", b"WatchBooks"),
    ],
)
def test_requests_find_the_method_whose_rule_they_fit(
    method: bytes, target: bytes, path: bytes
) -> None:
    assert matched(method, target).binding.path == b"/library.v1.Library/" + path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (b"GET", b"/v2/books/1"),
        (b"PUT", b"/v1/shelves/1/books"),
        (b"GET", b"/v1/books/1:cancel/x"),
        (b"GET", b"/library.v1.Library/GetBook"),
        (b"POST", b"/library.v1.Library/Nothing"),
    ],
)
def test_other_requests_find_nothing(method: bytes, path: bytes) -> None:
    assert transcoder.match(method, path, b"") is None


def test_the_methods_of_a_path_are_known() -> None:
    assert transcoder.methods(b"/v1/books/2") == ["DELETE", "GET", "PATCH", "PUT"]


def test_streaming_is_told() -> None:
    watch = matched(b"POST", b"/library.v1.Library/WatchBooks").binding
    add = matched(b"POST", b"/v1/shelves/1/books:add").binding
    assert [watch.client_streaming, watch.server_streaming] == [False, True]
    assert [add.client_streaming, add.server_streaming] == [True, False]


def test_variables_of_the_path_become_fields() -> None:
    assert sent(b"GET", b"/v1/shelves/1/books/a%20b") == {"name": "shelves/1/books/a b"}
    assert sent(b"PATCH", b"/v1/books/7", {"shelf": "s"}) == {
        "shelf": "s",
        "book": {"name": "books/7"},
    }


def test_the_path_goes_before_the_body() -> None:
    body = {"book": {"name": "books/8", "title": "t"}}
    assert sent(b"PATCH", b"/v1/books/7", body) == {"book": {"name": "books/7", "title": "t"}}


def test_the_body_is_the_field_that_the_rule_names_and_the_query_the_others() -> None:
    assert sent(b"POST", b"/v1/shelves/s/books?dry_run=true", {"title": "t"}) == {
        "shelf": "s",
        "dry_run": True,
        "book": {"title": "t"},
    }


def test_no_body_is_a_message_without_fields() -> None:
    assert sent(b"POST", b"/library.v1.Library/GetBook") == {}
    assert sent(b"DELETE", b"/v1/books/1", {}) == {"name": "1"}


def test_every_kind_of_parameter_is_read() -> None:
    query = (
        b"page_size=3&genres=POEM&genres=1&sizes=9007199254740993&sizes=-1&author.name=A%20B"
        b"&author.teacher.born=1900&lent=true&checked=false&since=2026-01-31T12:00:00Z&within=1.5s"
        b"&text=&token=AQI&above=2.5"
    )
    assert sent(b"GET", b"/v1/shelves/s/books?" + query) == {
        "shelf": "s",
        "page_size": 3,
        "genres": ["POEM", "NOVEL"],
        "sizes": ["9007199254740993", "-1"],
        "author": {"name": "A B", "teacher": {"born": 1900}},
        "lent": True,
        "checked": False,
        "since": "2026-01-31T12:00:00Z",
        "within": "1.500s",
        "text": "",
        "token": "AQI=",
        "above": 2.5,
    }


def test_an_empty_parameter_within_a_message_makes_the_message_be_there() -> None:
    assert sent(b"GET", b"/v1/shelves/s/books?author.name=") == {"shelf": "s", "author": {}}


def test_parameters_may_have_the_names_of_json() -> None:
    assert sent(b"GET", b"/v1/shelves/s/books?pageSize=3") == {"shelf": "s", "page_size": 3}
    assert sent(b"GET", b"/v1/books/1?view=title,authorName") == {
        "name": "1",
        "view": "title,authorName",
    }


@pytest.mark.parametrize(
    ("query", "field", "detail"),
    [
        (b"page_size=x", "page_size", "must be an integer of 32 bits"),
        (b"page_size=4294967296", "page_size", "must be an integer of 32 bits"),
        (b"page_size=1&pageSize=x", "pageSize", "must be an integer of 32 bits"),
        (b"page_size=1&page_size=2", "page_size", "may stand only once"),
        (b"genres=COMIC", "genres", "must be one of: GENRE_UNSPECIFIED, NOVEL, POEM"),
        (b"sizes=1&sizes=1.5", "sizes", "must be an integer of 64 bits"),
        (b"lent=1", "lent", "must be true or false"),
        (b"checked=yes", "checked", "must be true or false"),
        (b"since=today", "since", "must be a time such as 2026-01-31T12:00:00Z"),
        (b"within=1m", "within", "must be a duration such as 1.5s"),
        (b"above=much", "above", "must be a number"),
        (b"author=A", "author", "cannot be given as a parameter"),
        (b"labels=a", "labels", "cannot be given as a parameter"),
        (b"author.age=3", "author.age", "is not a known parameter"),
        (b"since.seconds=3", "since.seconds", "is not a known parameter"),
        (b"labels.key=3", "labels.key", "is not a known parameter"),
        (b"x=1", "x", "is not a known parameter"),
        (b"=", "", "is not a known parameter"),
        (b"shelf=other", "shelf", "stands in the path"),
    ],
)
def test_bad_parameters_are_named_with_what_they_should_be(
    query: bytes, field: str, detail: str
) -> None:
    assert bad(b"GET", b"/v1/shelves/s/books?" + query) == {field: detail}


def test_all_bad_parameters_are_named_at_once() -> None:
    assert list(bad(b"GET", b"/v1/shelves/s/books?x=1&page_size=x&y=2")) == ["x", "page_size", "y"]


def test_fields_of_the_body_are_no_parameters() -> None:
    assert bad(b"POST", b"/v1/shelves/s/books?book.title=t") == {
        "book.title": "belongs into the body"
    }
    assert bad(b"PATCH", b"/v1/books/1?dry_run=true") == {"dry_run": "belongs into the body"}


def test_a_query_that_is_not_utf8_is_refused() -> None:
    assert refused(b"GET", b"/v1/shelves/s/books?text=%FF").reason == "bad_request"


def test_parameters_that_are_to_be_ignored_are() -> None:
    tolerant = Transcoder(library(), ignored=["access_token"])
    match = matched(b"GET", b"/v1/books/1?access_token=x", tolerant)
    assert match.request_message(b"") == matched(b"GET", b"/v1/books/1").request_message(b"")


def test_variables_of_the_path_have_their_fields_types() -> None:
    text = HEAD.replace("string a = 1", "int32 a = 1") % 'get: "/v1/{a}"'
    match = matched(b"GET", b"/v1/x", Transcoder(described(text, "--include_imports")))
    with pytest.raises(GatewayError) as caught:
        match.request_message(b"")
    assert caught.value.errors == [{"field": "a", "detail": "must be an integer of 32 bits"}]


@pytest.mark.parametrize("body", [b"{", b"nope", b'{"book":}', b"\xff", b'{"a":' * 5000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refused(b"PATCH", b"/v1/books/1", body).reason == "malformed_json"


def test_a_body_that_the_rule_does_not_take_is_refused() -> None:
    assert refused(b"DELETE", b"/v1/books/1", {"view": "x"}).reason == "bad_request"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x", {"book": "must be an object"}),
        (
            {"nope": 1, "Title": 2},
            {"book.nope": "is not a known field", "book.Title": "is not a known field"},
        ),
        ({"title": 1}, {"book.title": "must be a string"}),
        ({"genre": "COMIC"}, {"book.genre": "must be one of: GENRE_UNSPECIFIED, NOVEL, POEM"}),
        ({"size": "many"}, {"book.size": "must be an integer of 64 bits"}),
        (
            {"size": 1.5, "lent": "no"},
            {"book.size": "must be an integer of 64 bits", "book.lent": "must be true or false"},
        ),
        (
            {"author": {"teacher": {"born": "x"}}},
            {"book.author.teacher.born": "must be an integer of 32 bits"},
        ),
        ({"author": "A"}, {"book.author": "must be an object"}),
        ({"tags": "a"}, {"book.tags": "must be an array; of each item: a string"}),
        (
            {"tags": ["a", 1, None]},
            {"book.tags[1]": "must be a string", "book.tags[2]": "must be a string"},
        ),
        (
            {"editors": [{}, {"born": []}, 3]},
            {
                "book.editors[1].born": "must be an integer of 32 bits",
                "book.editors[2]": "must be an object",
            },
        ),
        ({"stock": {"a": 1, "b": "x"}}, {"book.stock[b]": "must be an integer of 32 bits"}),
        ({"stock": [1]}, {"book.stock": "must be an object"}),
        (
            {"volumes": {"1": {"born": "x"}}},
            {"book.volumes[1].born": "must be an integer of 32 bits"},
        ),
        (
            {"volumes": {"one": {}}},
            {"book.volumes[one]": "must have an integer of 32 bits as its key"},
        ),
        ({"added": "x"}, {"book.added": "must be a time such as 2026-01-31T12:00:00Z"}),
        ({"added": 5}, {"book.added": "must be a time such as 2026-01-31T12:00:00Z"}),
        ({"loan": "1h"}, {"book.loan": "must be a duration such as 1.5s"}),
        ({"extra": []}, {"book.extra": "must be an object"}),
        ({"pages": "x"}, {"book.pages": "must be an integer of 64 bits"}),
        (
            {"attached": {"@type": "type.googleapis.com/no.Such"}},
            {"book.attached": "must be an object with an @type that is known"},
        ),
        ({"person": "a", "company": "b"}, {"book.company": "cannot be given together with person"}),
        ({"edition": -1}, {"book.edition": "must be an integer of 32 bits, 0 or more"}),
    ],
)
def test_bad_fields_of_a_body_are_named_with_what_they_should_be(
    body: Any, expected: dict[str, str]
) -> None:
    assert bad(b"POST", b"/v1/shelves/s/books", body) == expected


@pytest.mark.parametrize("body", [[], "", 1, None])
def test_a_whole_body_is_an_object(body: Any) -> None:
    assert bad(b"PATCH", b"/v1/books/1", body) == {"": "must be an object"}


def test_a_body_that_nests_too_deep_is_refused() -> None:
    body: dict[str, Any] = {}
    for _ in range(200):
        body = {"teacher": body}
    error = bad(b"POST", b"/v1/shelves/s/books", {"author": body})
    assert list(error.values()) == ["is nested more than 100 deep"]


def test_free_json_that_nests_too_deep_is_refused() -> None:
    body = b'{"anything":' + b"[" * 900 + b"]" * 900 + b"}"
    assert refused(b"POST", b"/v1/shelves/s/books", body).reason == "invalid_fields"


def test_responses_are_written_as_proto3_maps_to_json() -> None:
    binding = matched(b"GET", b"/v1/books/1").binding
    message = book(title="t", genre=2, size=2**60, cover=b"\1\2", tags=["a"], lent=False)
    assert told(binding, message) == {
        "title": "t",
        "genre": "POEM",
        "size": str(2**60),
        "cover": "AQI=",
        "tags": ["a"],
    }


def test_the_style_of_responses_can_be_chosen() -> None:
    style = JsonStyle(names="proto", unset="written", enums="numbers")
    binding = matched(
        b"POST", b"/library.v1.Library/ListBooks", Transcoder(library(), style=style)
    ).binding
    kind = message_factory.GetMessageClass(binding.rule.rpc.output_type)
    written = told(binding, kind(books=[{"genre": 2}]))
    assert written["next_page_token"] == ""
    assert (written["books"][0]["genre"], written["books"][0]["lent"]) == (2, False)


def test_a_response_may_be_one_field() -> None:
    listing = matched(b"GET", b"/v1/shelves/s/books").binding
    kind = message_factory.GetMessageClass(listing.rule.rpc.output_type)
    assert told(listing, kind(books=[{"title": "t"}], next_page_token="x")) == [{"title": "t"}]
    assert told(listing, kind()) == []
    special = matched(b"GET", b"/v1/books/special").binding
    assert told(special, book(title="t")) == "t"
    assert told(special, book()) == ""


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x05a", gzip.compress(b"a", mtime=0)])
def test_what_is_no_message_is_the_services_fault(message: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        matched(b"GET", b"/v1/books/1").binding.response_json(message)
    assert (caught.value.reason, caught.value.source) == ("upstream_message", "upstream")


def test_an_any_that_nobody_knows_is_the_services_fault() -> None:
    message = book(attached={"type_url": "type.googleapis.com/no.Such", "value": b""})
    with pytest.raises(GatewayError, match="upstream_message"):
        told(matched(b"GET", b"/v1/books/1").binding, message)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('get: "v1"', "does not begin with a slash"),
        ('get: "/v1/{b}"', "has no field 'b'"),
        ('get: "/v1/{r}"', "cannot be a part of a path"),
        ('get: "/v1/{m}"', "cannot be a part of a path"),
        ('get: "/v1/{r.a}"', "has no field 'r.a'"),
        ('get: "/v1" body: "*"', "a GET has no body"),
        ('post: "/v1" body: "b"', "body: there is no field 'b'"),
        ('get: "/v1" response_body: "b"', "response_body: there is no field 'b'"),
        ('body: "*"', "without a method"),
        (r'custom { kind: "A\r\nB" path: "/v1" }', "is no method of HTTP"),
        ('custom { kind: "" path: "/v1" }', "is no method of HTTP"),
        ('get: "/v1" additional_bindings { get: "/v1" }', "p.S.C and p.S.C want the same GET"),
        ('get: "/a" additional_bindings { get: "/b" additional_bindings { get: "/c" } }', "within"),
    ],
)
def test_a_rule_that_makes_no_sense_is_found_when_it_is_read(rule: str, says: str) -> None:
    with pytest.raises(BadRule, match=r"p\.S\.C") as caught:
        Transcoder(described(HEAD % rule, "--include_imports"))
    assert says in str(caught.value)


def test_what_is_no_set_of_descriptors_is_refused() -> None:
    with pytest.raises(BadRule, match="FileDescriptorSet"):
        Transcoder(b"nonsense")


def test_googles_own_imports_may_be_missing() -> None:
    made = Transcoder(described(HEAD % 'get: "/v1/{a}"'))
    assert matched(b"GET", b"/v1/x", made).request_message(b"") == b"\x0a\x01x"


def test_another_missing_import_is_named() -> None:
    with pytest.raises(BadRule, match=r"imports library\.proto.*--include_imports"):
        Transcoder(_without_imports())


def _without_imports() -> bytes:
    file = FileDescriptorProto(name="x.proto", dependency=["library.proto"])
    return FileDescriptorSet(file=[file]).SerializeToString()


def test_only_the_services_that_are_named_are_served() -> None:
    assert Transcoder(library(), services=[SERVICE]).methods(b"/v1/books/2")
    with pytest.raises(BadRule, match=r"no service 'x\.Y'; there are: library\.v1\.Library"):
        Transcoder(library(), services=["x.Y"])


authors = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"name": st.text(min_size=1), "born": st.integers(1, 2**31 - 1)}
    ),
    lambda inner: st.fixed_dictionaries({}, optional={"teacher": inner}),
    max_leaves=3,
)
values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
books = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(min_size=1),
        "genre": st.sampled_from(["NOVEL", "POEM"]),
        "size": st.integers(1, 2**63 - 1).map(str),
        "price": st.floats(0.5, allow_nan=False, allow_infinity=False),
        "lent": st.just(True),
        "author": authors,
        "tags": st.lists(st.text(), min_size=1),
        "stock": st.dictionaries(st.text(), st.integers(0, 9), min_size=1),
        "extra": st.dictionaries(st.text(), values, max_size=3),
        "edition": st.integers(0, 2**32 - 1),
    },
)


@settings(max_examples=40)
@given(books)
def test_what_a_client_sends_is_what_it_would_be_told(document: dict[str, Any]) -> None:
    match = matched(b"PUT", b"/v1/books/1?shelf=s")
    message = match.request_message(orjson.dumps(document))
    kind = message_factory.GetMessageClass(match.binding.rule.rpc.input_type)
    request = kind.FromString(message)
    assert request.shelf == "s"  # type: ignore[attr-defined]
    told = match.binding.response_json(request.book.SerializeToString())  # type: ignore[attr-defined]
    assert orjson.loads(told) == {**document, "name": "books/1"}


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.sampled_from([field.name for field in book().DESCRIPTOR.fields]),
        values,
    )
)
def test_no_body_leads_to_anything_but_a_message_or_a_refusal(body: dict[str, Any]) -> None:
    reason = ""
    try:
        sent(b"POST", b"/v1/shelves/s/books", body)
    except GatewayError as error:
        reason = error.reason if error.errors else "nothing is named"
    assert reason in ("", "invalid_fields")
