"""Streams of messages as lines and as events, and failures as problem documents."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.json_streams import RequestLines, ResponseStream, stream_form
from siger_gateway.grpc.problems import Problem, problem_of
from siger_gateway.grpc.status import Code, trailers_only
from siger_gateway.grpc.transcoding import Transcoder
from tests.descriptors import library

transcoder = Transcoder(library())
ADD = transcoder.match(b"POST", b"/v1/shelves/7/books:add", b"dry_run=true")
WATCH = transcoder.match(b"POST", b"/library.v1.Library/WatchBooks", b"")
assert ADD is not None
assert WATCH is not None


def of_type(name: str, **fields: Any) -> Message:
    kind = message_factory.GetMessageClass(transcoder.pool.FindMessageTypeByName(name))
    return kind(**fields)


def added(title: str) -> bytes:
    message = of_type(
        "library.v1.CreateBookRequest", shelf="7", dry_run=True, book={"title": title}
    )
    return message.SerializeToString(deterministic=True)


def problem(
    code: Code, *details: Message, text: bytes = b"no", pool: DescriptorPool = transcoder.pool
) -> tuple[Problem, dict[str, Any]]:
    status = status_pb2.Status(code=code)
    for detail in details:
        status.details.add().Pack(detail)
    encoded = b64encode(status.SerializeToString()).rstrip(b"=")
    fields = [(b"grpc-status", b"%d" % code), (b"grpc-message", text)]
    made = problem_of(
        code,
        [*fields, (b"grpc-status-details-bin", encoded)] if details else fields,
        pool,
        instance="/v1/x",
        request_id="r1",
    )
    return made, orjson.loads(made.body)


def test_each_line_is_a_message_with_the_fields_of_path_and_query() -> None:
    lines = RequestLines(ADD)
    assert lines.feed(b'{"title":"a"}\n\n  \r\n{"title"') == [added("a")]
    assert lines.feed(b':"b"}') == []
    assert lines.end() == [added("b")]


@given(st.lists(st.text(min_size=1), max_size=5), st.lists(st.integers(0, 30), max_size=10))
def test_lines_are_found_however_they_are_cut(titles: list[str], sizes: list[int]) -> None:
    body = b"".join(orjson.dumps({"title": title}) + b"\n" for title in titles)
    lines, start, found = RequestLines(ADD), 0, []
    for size in [*sizes, len(body)]:
        found += lines.feed(body[start : start + size])
        start += size
    assert found + lines.end() == [added(title) for title in titles]


def test_a_bad_line_is_named_by_its_number() -> None:
    lines = RequestLines(ADD)
    with pytest.raises(GatewayError) as caught:
        lines.feed(b'{"title":"a"}\n\n{"title":1}\n')
    assert caught.value.detail.startswith("Line 3: ")
    assert caught.value.errors == [{"field": "book.title", "detail": "must be a string"}]


@pytest.mark.parametrize(
    "body", [b'{"title":"aaaa"}', b'{"title":"aaaa"}\n', b'{}\n{"title":"aaaa"}']
)
def test_a_line_past_the_limit_is_refused_before_it_ends(body: bytes) -> None:
    assert len(RequestLines(ADD, limit=16).feed(body + b"\n")) == body.count(b"{")
    with pytest.raises(GatewayError) as caught:
        RequestLines(ADD, limit=15).feed(body)
    assert caught.value.reason == "body_too_large"


def test_a_response_is_a_line_for_each_message() -> None:
    stream = ResponseStream(WATCH.binding, "lines")
    assert stream.content_type == b"application/x-ndjson"
    assert stream.feed(of_type("library.v1.Book", title="a").SerializeToString()) == (
        b'{"title":"a"}\n'
    )
    assert stream.end() == b""


def test_a_response_may_be_an_event_for_each_message() -> None:
    stream = ResponseStream(WATCH.binding, "events")
    assert stream.content_type == b"text/event-stream"
    assert stream.feed(b"") == b"data: {}\n\n"
    assert stream.end() == b"event: end\ndata: {}\n\n"


def test_a_stream_that_fails_ends_with_the_problem() -> None:
    body = problem(Code.ABORTED)[0].body
    assert ResponseStream(WATCH.binding, "lines").fail(body) == b'{"error":' + body + b"}\n"
    assert ResponseStream(WATCH.binding, "events").fail(body) == (
        b"event: error\ndata: " + body + b"\n\n"
    )


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (b"", "lines"),
        (b"*/*", "lines"),
        (b"application/x-ndjson", "lines"),
        (b"text/event-stream", "events"),
        (b"text/html, Text/Event-Stream;q=0.9", "events"),
    ],
)
def test_accept_chooses_between_lines_and_events(accept: bytes, form: str) -> None:
    assert stream_form(accept) == form


def test_a_failure_is_a_problem_document_with_the_status_of_its_code() -> None:
    made, document = problem(Code.NOT_FOUND, text=b"no book%3A 7")
    assert made.status == 404
    assert dict(made.headers)[b"content-type"] == b"application/problem+json"
    assert document == {
        "type": "urn:siger:problem:grpc_not_found",
        "title": "Not found",
        "status": 404,
        "detail": "no book: 7",
        "instance": "/v1/x",
        "reason": "grpc_not_found",
        "request_id": "r1",
    }


def test_details_are_written_as_json() -> None:
    info = error_details_pb2.ErrorInfo(reason="LENT", domain="library")
    book = of_type("library.v1.Book", title="a")
    assert problem(Code.ABORTED, info, book)[1]["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "LENT",
            "domain": "library",
        },
        {"@type": "type.googleapis.com/library.v1.Book", "title": "a"},
    ]


def test_a_detail_of_an_unknown_type_is_handed_on_as_bytes() -> None:
    book = of_type("library.v1.Book", title="a")
    assert problem(Code.ABORTED, book, pool=DescriptorPool())[1]["details"] == [
        {"@type": "type.googleapis.com/library.v1.Book", "value": "EgFh"}
    ]


@pytest.mark.parametrize(("nanos", "value"), [(0, b"3"), (1, b"4")])
def test_retry_info_becomes_retry_after_in_whole_seconds(nanos: int, value: bytes) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay={"seconds": 3, "nanos": nanos})
    assert dict(problem(Code.UNAVAILABLE, retry)[0].headers)[b"retry-after"] == value


@pytest.mark.parametrize("value", [b"!", b"A", b"////", b"\xff", b64encode(b"\x1a\x05x")])
def test_details_that_are_not_well_formed_are_left_out(value: bytes) -> None:
    fields = [(b"grpc-status-details-bin", value)]
    made = problem_of(Code.INTERNAL, fields, transcoder.pool, instance="/", request_id="r")
    assert (made.status, "details" in orjson.loads(made.body)) == (500, False)


def test_a_bad_detail_among_others_does_no_harm() -> None:
    status = status_pb2.Status()
    for name in ("RetryInfo", "ErrorInfo"):
        url = f"type.googleapis.com/google.rpc.{name}"
        status.details.append(AnyMessage(type_url=url, value=b"\xff"))
    fields = [(b"grpc-status-details-bin", b64encode(status.SerializeToString()))]
    made = problem_of(Code.INTERNAL, fields, transcoder.pool, instance="/", request_id="r")
    assert [detail["value"] for detail in orjson.loads(made.body)["details"]] == ["/w==", "/w=="]
    assert b"retry-after" not in dict(made.headers)


def test_what_another_gateway_of_ours_says_is_understood() -> None:
    head = trailers_only(GatewayError("rate_limited", headers={"Retry-After": "7"}), b"r0")[1]
    made = problem_of(Code.RESOURCE_EXHAUSTED, head, transcoder.pool, instance="/", request_id="r1")
    assert (made.status, dict(made.headers)[b"retry-after"]) == (429, b"7")
    assert orjson.loads(made.body)["details"][0]["reason"] == "rate_limited"
