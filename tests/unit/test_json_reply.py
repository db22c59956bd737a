"""What a JSON client gets of a gRPC response, however its bytes are cut, and whatever is wrong."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from typing import Any, cast

import orjson
import pytest
from google.protobuf import message_factory
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import frame
from siger_gateway.grpc.json_streams import ResponseStream
from siger_gateway.grpc.status import Code
from siger_gateway.grpc.transcoding import Transcoder
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.proxy.json_reply import JsonReply
from siger_gateway.proxy.transcode import Transcoding
from tests.descriptors import library

transcoder = Transcoder(library())
transcoding = Transcoding(transcoder)
GRPC: Headers = [(b"content-type", b"application/grpc"), (b"x-cost", b"3")]
OK: Headers = [(b"grpc-status", b"0")]


class Wire:
    """The client's stream: what has been sent on it, in order."""

    def __init__(self) -> None:
        self.head_sent = False
        self.sent: list[Any] = []

    def send_head(
        self, status: int, headers: Headers, body: bytes, *, sized: bool, **_: object
    ) -> None:
        self.head_sent = True
        self.sent += [(status, dict(headers), sized), body] if body else [(status, dict(headers))]

    def send_data(self, data: bytes) -> None:
        self.sent.append(data)

    def send_end(self, trailers: Headers) -> None:
        self.sent.append("end")

    def abort(self) -> None:
        self.sent.append("abort")

    @property
    def body(self) -> bytes:
        return b"".join(one for one in self.sent if isinstance(one, bytes))


def begun(*, streaming: bool, accept: bytes = b"") -> tuple[JsonReply, Wire]:
    path = b"/library.v1.Library/WatchBooks" if streaming else b"/library.v1.Library/GetBook"
    asked = Request(b"POST", path, [(b"accept", accept)], True)
    wire = Wire()
    match = transcoding.match(asked, path)
    reply = transcoding.reply(match, asked, cast(DownstreamStream, wire), b"r1")
    return reply, wire


def book(title: str) -> bytes:
    kind = message_factory.GetMessageClass(transcoder.pool.FindMessageTypeByName("library.v1.Book"))
    return bytes(kind(title=title).SerializeToString())


def respond(reply: JsonReply, *pieces: bytes, code: Code = Code.OK) -> None:
    reply.send_head(200, list(GRPC), b"", sized=False)
    for piece in pieces:
        reply.send_data(piece)
    trailers = [(b"grpc-status", b"%d" % code), (b"grpc-message", b"why")]
    reply.settle(code, trailers)
    reply.send_end(trailers)


@given(st.lists(st.integers(1, 9), max_size=5))
def test_one_message_is_json_with_its_length(sizes: list[int]) -> None:
    reply, wire = begun(streaming=False)
    data, pieces = frame(book("Emma")), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    respond(reply, *filter(None, [*pieces, data]))
    head = {b"x-cost": b"3", b"content-type": b"application/json", b"content-length": b"16"}
    assert wire.sent == [(200, head, True), b'{"title":"Emma"}', "end"]


def test_nothing_is_sent_before_the_call_has_succeeded() -> None:
    reply, wire = begun(streaming=False)
    reply.send_head(200, list(GRPC), frame(book("Emma")), sized=False)
    assert wire.sent == []
    reply.settle(Code.ABORTED, [(b"grpc-status", b"10"), (b"grpc-message", b"no")])
    status, headers, _ = wire.sent[0]
    assert reply.status == status
    assert (status, headers[b"content-type"]) == (409, b"application/problem+json")
    assert headers[b"content-length"] == b"%d" % len(wire.body)
    assert headers[b"x-cost"] == b"3"
    document = orjson.loads(wire.body)
    assert (document["reason"], document["detail"]) == ("grpc_aborted", "no")


def test_a_head_that_is_the_end_may_say_what_went_wrong() -> None:
    reply, wire = begun(streaming=False)
    head = [*GRPC, (b"grpc-status", b"5"), (b"grpc-message", b"none")]
    reply.send_head(200, head, b"", sized=False, ends=True)
    reply.settle(Code.NOT_FOUND, [])
    reply.send_end([])
    status, headers, _ = wire.sent[0]
    assert (status, headers.keys() & {b"grpc-status", b"grpc-message"}) == (404, set())
    assert orjson.loads(wire.body)["detail"] == "none"


def test_a_second_message_is_refused() -> None:
    reply, _ = begun(streaming=False)
    with pytest.raises(GatewayError, match="more than one message"):
        respond(reply, frame(book("a")) + frame(book("b")))


def test_success_without_a_message_is_refused() -> None:
    reply, _ = begun(streaming=False)
    with pytest.raises(GatewayError, match="sent no message"):
        respond(reply)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_message_that_is_cut_off_is_refused(streaming: bool) -> None:
    reply, _ = begun(streaming=streaming)
    with pytest.raises(GatewayError, match="ends within a message") as caught:
        respond(reply, frame(book("a"))[:-1])
    assert caught.value.reason == "upstream_message"


@pytest.mark.parametrize("data", [frame(b"\xff\xff"), b"\x80\x00\x00\x00\x00", b"\x01\0\0\0\0"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    reply, _ = begun(streaming=False)
    with pytest.raises(GatewayError) as caught:
        respond(reply, data)
    assert caught.value.reason == "upstream_message"


def test_compressed_messages_are_unpacked() -> None:
    reply, wire = begun(streaming=False)
    packed = gzip.compress(book("Emma"))
    head = [*GRPC, (b"grpc-encoding", b"gzip")]
    reply.send_head(200, head, struct.pack(">BI", 1, len(packed)) + packed, sized=False)
    reply.settle(Code.OK, OK)
    reply.send_end(OK)
    assert wire.body == b'{"title":"Emma"}'
    assert b"grpc-encoding" not in wire.sent[0][1]


def test_an_unknown_compression_is_refused() -> None:
    reply, _ = begun(streaming=False)
    with pytest.raises(GatewayError, match="compression"):
        reply.send_head(200, [*GRPC, (b"grpc-encoding", b"snappy")], b"", sized=False)


def test_a_response_that_is_not_of_grpc_passes_as_it_is() -> None:
    reply, wire = begun(streaming=False)
    reply.send_head(503, [(b"content-type", b"text/html")], b"<p>", sized=False)
    reply.send_data(b"busy")
    reply.settle(Code.UNAVAILABLE, [])
    reply.send_end([])
    assert wire.sent == [(503, {b"content-type": b"text/html"}, False), b"<p>", b"busy", "end"]


def test_the_head_of_a_stream_waits_for_its_first_message() -> None:
    reply, wire = begun(streaming=True)
    reply.send_head(200, list(GRPC), b"", sized=False)
    assert wire.sent == []
    reply.send_data(frame(book("a")) + frame(book("b")))
    head = {b"x-cost": b"3", b"content-type": b"application/x-ndjson"}
    assert wire.sent == [(200, head, False), b'{"title":"a"}\n{"title":"b"}\n']
    reply.settle(Code.OK, OK)
    reply.send_end(OK)
    assert wire.sent[2:] == ["end"]


def test_messages_before_a_bad_one_are_told() -> None:
    reply, wire = begun(streaming=True, accept=b"text/event-stream")
    reply.send_head(200, list(GRPC), b"", sized=False)
    with pytest.raises(GatewayError) as caught:
        reply.send_data(frame(book("a")) + frame(b"\xff"))
    assert wire.body == b'data: {"title":"a"}\n\n'
    reply.break_off(caught.value)
    *_, last, end = wire.sent
    assert last.startswith(b"event: error\ndata: {")
    assert orjson.loads(last.partition(b"data: ")[2])["reason"] == "upstream_message"
    assert end == "end"


def test_what_is_passed_on_as_it_is_breaks_off_as_such() -> None:
    reply, wire = begun(streaming=True)
    reply.send_head(200, [(b"content-type", b"text/html")], b"<p>", sized=False)
    reply.break_off(GatewayError("upstream_reset"))
    assert wire.sent[-1] == "abort"


def test_a_stream_of_events_says_that_it_is_complete() -> None:
    reply, wire = begun(streaming=True, accept=b"text/event-stream")
    respond(reply)
    assert wire.body == b"event: end\ndata: {}\n\n"


def test_a_call_has_the_headers_of_its_request_and_the_path_of_its_method() -> None:
    asked = Request(b"GET", b"/v1/books/1", [(b"host", b"a"), (b"accept", b"x")], True)
    asked.http10 = True
    call = transcoding.as_grpc(asked, transcoding.match(asked, asked.target))
    assert (call.method, call.path) == (b"POST", b"/library.v1.Library/GetBook")
    assert call.fields.keys() == {b"host", b"content-type", b"te", b"grpc-accept-encoding"}
    assert (call.http10, call.http2, call.content_length) == (True, False, None)


def test_a_response_stream_is_chosen_by_the_method_and_accept() -> None:
    assert begun(streaming=False, accept=b"text/event-stream")[0]._form is None
    form = begun(streaming=True)[0]._form
    assert isinstance(form, ResponseStream)


def test_messages_are_unpacked_one_by_one() -> None:
    """64 of 1 MiB, each in a kilobyte, where there may be one."""
    reply, _ = begun(streaming=False)
    reply.send_head(200, [*GRPC, (b"grpc-encoding", b"gzip")], b"", sized=False)
    packed = gzip.compress(book("x" * (1 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(GatewayError, match="more than one"):
            reply.send_data((b"\1" + struct.pack(">I", len(packed)) + packed) * 64)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
