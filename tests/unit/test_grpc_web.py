"""gRPC-Web becomes gRPC and back, however its bytes are cut."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import frame
from siger_gateway.grpc.web import (
    RequestBody,
    WebCall,
    status_of_head,
    trailers_frame,
    web_call,
)

TRAILERS = [(b"grpc-status", b"0"), (b"grpc-message", b"fine"), (b"x-cost", b"3")]
FRAME = b"\x80\x00\x00\x00\x2fgrpc-status: 0\r\ngrpc-message: fine\r\nx-cost: 3\r\n"
TEXT = WebCall(b"+proto", sends_text=True, takes_text=True)
BINARY = WebCall(b"+proto", sends_text=False, takes_text=False)


def sent(body: RequestBody, pieces: list[bytes]) -> bytes:
    return b"".join(map(body.feed, pieces)) + body.end()


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(data[start : start + size])
        start += size
    return [*pieces, data[start:]]


def frames_of_text(body: bytes) -> bytes:
    """What a client reads: concatenated pieces of base64, each padded by itself."""
    return b"".join(b64decode(body[start : start + 4]) for start in range(0, len(body), 4))


@pytest.mark.parametrize(
    ("content_type", "accept", "call"),
    [
        (b"application/grpc-web", b"", WebCall(b"", False, False)),
        (b"application/grpc-web+proto", b"*/*", WebCall(b"+proto", False, False)),
        (b"application/grpc-web-text", b"", WebCall(b"", True, True)),
        (b"Application/gRPC-Web-Text+proto; x=y", b"", WebCall(b"+proto", True, True)),
        (
            b"application/grpc-web-text",
            b"text/html, application/grpc-web+proto;q=1",
            WebCall(b"", True, False),
        ),
        (
            b"application/grpc-web+json",
            b"application/grpc-web-text",
            WebCall(b"+json", False, True),
        ),
        (b"application/grpc", b"application/grpc-web", None),
        (b"application/grpc-webx", b"", None),
        (b"application/grpc-web+", b"", None),
        (b"", b"", None),
    ],
)
def test_media_type_and_accept_say_how_to_translate(
    content_type: bytes, accept: bytes, call: WebCall | None
) -> None:
    assert web_call(content_type, accept) == call


def test_the_service_gets_an_ordinary_grpc_request() -> None:
    head = [
        (b"host", b"a"),
        (b"content-type", b"application/grpc-web-text+proto"),
        (b"accept", b"application/grpc-web-text"),
        (b"content-length", b"12"),
        (b"x-grpc-web", b"1"),
        (b"grpc-timeout", b"1S"),
        (b"x-user", b"u"),
    ]
    assert TEXT.request_head(head) == [
        (b"host", b"a"),
        (b"grpc-timeout", b"1S"),
        (b"x-user", b"u"),
        (b"content-type", b"application/grpc+proto"),
        (b"te", b"trailers"),
    ]


def test_the_client_gets_its_own_media_type_and_the_status_only_in_the_trailers() -> None:
    head = [
        (b"content-type", b"application/grpc+proto"),
        (b"content-length", b"0"),
        (b"grpc-status", b"5"),
        (b"grpc-message", b"no"),
        (b"x-a", b"b"),
    ]
    assert TEXT.response_head(head) == [
        (b"x-a", b"b"),
        (b"content-type", b"application/grpc-web-text+proto"),
    ]
    assert BINARY.response_head(head)[-1] == (b"content-type", b"application/grpc-web+proto")


def test_a_head_that_is_the_end_becomes_a_trailers_frame() -> None:
    head = [(b"x", b"y"), (b"grpc-status", b"5"), (b"grpc-message", b"no")]
    assert status_of_head(head) == head[1:]
    assert BINARY.response_body().end(status_of_head(head)) == (
        b"\x80\x00\x00\x00\x22grpc-status: 5\r\ngrpc-message: no\r\n"
    )


def test_a_head_without_a_status_is_not_the_end() -> None:
    assert status_of_head([(b"x", b"y"), (b"grpc-message", b"no")]) == []


def test_binary_bodies_pass_and_the_trailers_follow() -> None:
    body = BINARY.response_body()
    assert body.feed(b"\x00\x00\x00\x00\x01a") == b"\x00\x00\x00\x00\x01a"
    assert body.end(TRAILERS) == FRAME
    assert sent(BINARY.request_body(), [b"\x00\x00", b"="]) == b"\x00\x00="


def test_a_response_without_trailers_ends_with_an_empty_frame() -> None:
    assert trailers_frame([]) == b"\x80\x00\x00\x00\x00"


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 30), max_size=20))
def test_text_requests_are_decoded_however_they_are_padded_and_cut(
    parts: list[bytes], sizes: list[int]
) -> None:
    encoded = b"".join(map(b64encode, parts))
    assert sent(TEXT.request_body(), cut(encoded, sizes)) == b"".join(parts)


@given(st.binary(max_size=200), st.lists(st.integers(0, 30), max_size=20))
def test_text_responses_hold_the_same_bytes_however_they_were_cut(
    data: bytes, sizes: list[int]
) -> None:
    body = TEXT.response_body()
    told = b"".join(map(body.feed, cut(data, sizes))) + body.end(TRAILERS)
    assert frames_of_text(told) == data + FRAME


@pytest.mark.parametrize("call", [TEXT, BINARY])
@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(0, 100), st.integers(0, 30))
def test_it_is_known_where_messages_end(
    call: WebCall, messages: list[bytes], total: int, size: int
) -> None:
    stream, ends = b"", {0}
    for one in messages:
        stream += frame(one)
        ends.add(len(stream))
    stream = stream[:total]
    body = call.response_body()
    for piece in cut(stream, [size] * 3):
        body.feed(piece)
    assert body.is_between_messages == (len(stream) in ends)


def test_a_text_request_is_passed_on_as_soon_as_four_characters_are_there() -> None:
    body = TEXT.request_body()
    assert [body.feed(piece) for piece in (b"QUJ", b"DQU", b"JD")] == [b"", b"ABC", b"ABC"]


@pytest.mark.parametrize("encoded", [b"QUJ!", b"QU=C", b"Q===", b"====", b"QUI=\n===", b"QU-_"])
def test_what_is_no_base64_is_refused(encoded: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        sent(TEXT.request_body(), [encoded])
    assert caught.value.reason == "bad_request"


def test_a_text_request_that_ends_within_a_group_is_refused() -> None:
    with pytest.raises(GatewayError, match="ends within"):
        sent(TEXT.request_body(), [b"QUJDQQ"])
